"""Build the images without an engine or a registry: ``build.py FOLDER [api] [worker] [nats]``.

Run it as root on Debian, with the Python of the workspace (``.venv/bin/python``).
Debian's packages come from the mirror of this machine (mmdebstrap), Python's from its index (uv).
The archives load into Docker (``docker load``) and containerd (``ctr images import``). Two builds
from the same sources and packages are identical byte for byte: files are sorted and have no times.
"""

import argparse
import functools
import hashlib
import importlib.util
import io
import json
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final

from install import EXTRAS, ROOT, install

_DEBIAN: Final = "bookworm"
_PYTHON_VERSION: Final = (3, 11)
"""Debian's release, and the version of its Python, for which the packages are installed."""
_PACKAGES: Final = (
    "python3-minimal",
    "libpython3.11-stdlib",
    "libstdc++6",
    "ca-certificates",
    "netbase",
)
_UNUSED: Final = re.compile(
    r"usr/share/(doc|man|info|locale|lintian|perl5|bash-completion|zoneinfo)/.|var/(cache|lib|log)/."
    r"|usr/(lib|bin|sbin)/(apt|dpkg|perl)|.*/__pycache__(/|$)|usr/lib/python3\.11/"
    r"(test|idlelib|tkinter|lib2to3|ensurepip|pydoc_data|turtledemo)/"
)
_USER: Final = "65532:65532"
_ACCOUNT: Final = "tailrace:x:65532:65532::/:/usr/sbin/nologin\n"
_ENVIRONMENT: Final = {
    "api": ["TAILRACE_HOST=0.0.0.0"],
    "worker": [],
}
_PYTHON: Final = ["PYTHONPATH=/app", "PYTHONDONTWRITEBYTECODE=1", "PYTHONUNBUFFERED=1"]

Layer = Path


def version() -> str:
    """Return the version of the distributions."""
    text = (ROOT / "shared/pyproject.toml").read_text()
    return re.findall(r'(?m)^version = "(.+)"$', text)[0]  # type: ignore[no-any-return]


def build_service(service: str, base: Layer, folder: Path) -> Path:
    """Build the image of a service on the base layer; return its archive."""
    with tempfile.TemporaryDirectory() as app:
        install(service, Path(app))
        layer = write_layer(folder / f"{service}.layer.tar", tree(Path(app), "app"))
    config = {
        "User": _USER,
        "Entrypoint": ["python3", "-m", f"tailrace_{service}"],
        "Env": ["PATH=/usr/bin:/bin", *_PYTHON, *_ENVIRONMENT[service]],
    }
    return write_image(folder, service, config, base, layer)


def build_nats(folder: Path) -> Path:
    """Build the image of NATS: the static server and the zone database."""
    import tzdata  # noqa: PLC0415 - needed for this image alone

    server = Path(sysconfig.get_path("scripts"), "nats-server")
    zones = Path(tzdata.__file__).parent / "zoneinfo"
    entries = [
        *((name, path) for name, path in tree(zones, "usr/share/zoneinfo") if path.suffix != ".py"),
        ("nats-server", server),
    ]
    # A volume that is mounted at /data gets the owner of this folder.
    layer = write_layer(folder / "nats.layer.tar", iter(sorted(entries)), owned=["data"])
    config = {"User": _USER, "Entrypoint": ["/nats-server"], "Env": []}
    return write_image(folder, "nats", config, layer)


def build_base(folder: Path) -> Layer:
    """Build the layer with Python and what it needs of Debian."""
    with tempfile.TemporaryDirectory() as temporary:
        packed = Path(temporary, "debian.tar")
        command = ["mmdebstrap", "--quiet", "--mode=root", "--variant=extract"]
        command += [f"--include={','.join(_PACKAGES)}", _DEBIAN, str(packed)]
        subprocess.run(command, check=True)  # noqa: S603 - a constant
        root = Path(temporary, "root")
        with tarfile.open(packed) as archive:
            archive.extractall(root, filter="tar")
        _configure(root)
        return write_layer(folder / "base.layer.tar", tree(root, "", _UNUSED))


def _configure(root: Path) -> None:
    """Do what the packages' scripts would do: certificates, the account and Python's name."""
    authorities = sorted((root / "usr/share/ca-certificates").rglob("*.crt"))
    bundle = root / "etc/ssl/certs/ca-certificates.crt"
    bundle.parent.mkdir(parents=True, exist_ok=True)
    bundle.write_bytes(b"".join(each.read_bytes() for each in authorities))
    (root / "etc/passwd").write_text(f"root:x:0:0:root:/root:/usr/sbin/nologin\n{_ACCOUNT}")
    (root / "etc/group").write_text("root:x:0:\ntailrace:x:65532:\n")


def tree(
    root: Path, prefix: str, unused: re.Pattern[str] | None = None
) -> Iterator[tuple[str, Path]]:
    """Yield the names in the image and the paths of the files below a folder, sorted."""
    for path in sorted(root.rglob("*")):
        name = str(PurePosixPath(prefix) / path.relative_to(root).as_posix())
        is_file = path.is_symlink() or path.is_file()
        if is_file and "__pycache__" not in name and not (unused and unused.match(name)):
            yield name, path


def write_layer(
    target: Path, entries: Iterator[tuple[str, Path]], owned: Sequence[str] = ()
) -> Layer:
    """Write a layer: files that root owns, without times, and the folders above them.

    Args:
        target: The layer's file.
        entries: Names in the image and the files to pack.
        owned: Empty folders that the image's user owns.
    """
    folders: set[PurePosixPath] = set()
    with tarfile.open(target, "w") as layer:
        for name in owned:
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode, entry.uid, entry.gid = tarfile.DIRTYPE, 0o750, 65532, 65532
            layer.addfile(entry)
        for name, path in entries:
            for folder in reversed(PurePosixPath(name).parents[:-1]):
                if folder not in folders:
                    folders.add(folder)
                    entry = tarfile.TarInfo(str(folder))
                    entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                    layer.addfile(entry)
            _add(layer, name, path)
    return target


def _add(layer: tarfile.TarFile, name: str, path: Path) -> None:
    entry = tarfile.TarInfo(name)
    if path.is_symlink():
        entry.type, entry.linkname = tarfile.SYMTYPE, str(path.readlink())
        layer.addfile(entry)
        return
    entry.size = path.stat().st_size
    entry.mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
    with path.open("rb") as content:
        layer.addfile(entry, content)


def write_image(folder: Path, name: str, config: dict[str, Any], *layers: Layer) -> Path:
    """Write an archive that Docker and containerd load; return its path."""
    digests = [_digest(layer) for layer in layers]
    image = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "created": "1970-01-01T00:00:00Z",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in digests]},
            "history": [{"created": "1970-01-01T00:00:00Z"} for _ in layers],
        },
        sort_keys=True,
    ).encode()
    config_name = f"{hashlib.sha256(image).hexdigest()}.json"
    manifest = {
        "Config": config_name,
        "RepoTags": [f"tailrace/{name}:{version()}"],
        "Layers": [f"{digest}.tar" for digest in digests],
    }
    target = folder / f"{name}.tar"
    with tarfile.open(target, "w") as archive:
        for layer, digest in zip(layers, digests, strict=True):
            _add(archive, f"{digest}.tar", layer)
        for member, data in ((config_name, image), ("manifest.json", _json([manifest]))):
            entry = tarfile.TarInfo(member)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return target


def _digest(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def _missing(images: Sequence[str]) -> str:
    """Return what this machine lacks for the images, with the fix; empty if nothing is missing."""
    if set(images) & set(EXTRAS):
        if shutil.which("mmdebstrap") is None:
            return "mmdebstrap is missing: apt-get install mmdebstrap"
        if sys.version_info[:2] != _PYTHON_VERSION:
            wanted = ".".join(map(str, _PYTHON_VERSION))
            return f"Python {wanted} is needed, the version in the images"
    server = Path(sysconfig.get_path("scripts"), "nats-server")
    if "nats" in images and not (server.exists() and importlib.util.find_spec("tzdata")):
        return "nats-server or tzdata is missing: use the workspace's Python, .venv/bin/python"
    return ""


def main() -> int:
    """Build the images that the command line names, and print their archives."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "images", nargs="*", metavar="image", help="api, worker, nats; default: all"
    )
    arguments = parser.parse_args()
    images = arguments.images or [*EXTRAS, "nats"]
    if unknown := set(images) - {*EXTRAS, "nats"}:
        parser.error(f"unknown image: {', '.join(sorted(unknown))}")
    if missing := _missing(images):
        parser.error(missing)
    folder: Path = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    base = functools.cache(lambda: build_base(folder))
    for image in images:
        archive = build_nats(folder) if image == "nats" else build_service(image, base(), folder)
        sys.stdout.write(f"{archive}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
