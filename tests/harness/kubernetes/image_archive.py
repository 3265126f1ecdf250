"""Image archives that containerd imports, written without an engine."""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_image(target: Path, reference: str, program: Path) -> Path:
    """Write an image whose only file is a static program; return its archive."""
    image: dict[str, Any] = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"User": "65532:65532", "Entrypoint": ["/program"]},
        "rootfs": {"type": "layers", "diff_ids": []},
    }
    return _write(target, reference, image, {}, _layer({"program": program}))


def add_files(
    source: Path, target: Path, reference: str, files: Mapping[str, Path], variables: list[str]
) -> Path:
    """Write an image with the files of another and more; return its archive.

    Args:
        source: the archive of the other image.
        target: where to write.
        reference: the name and tag of the new image.
        files: what is added, by the name in the image.
        variables: variables that its containers have, as ``NAME=value``.
    """
    with tarfile.open(source) as archive:
        members = {each.name: _content(archive, each.name) for each in archive.getmembers()}
    [manifest] = json.loads(members["manifest.json"])
    image = json.loads(members[manifest["Config"]])
    image.pop("history", None)
    image["config"]["Env"] += variables
    layers = {name: members[name] for name in manifest["Layers"]}
    return _write(target, reference, image, layers, _layer(files))


def _layer(files: Mapping[str, Path]) -> bytes:
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as archive:
        for name, path in files.items():
            _add(archive, name, path.read_bytes(), path.stat().st_mode & 0o755 | 0o444)
    return layer.getvalue()


def _write(
    target: Path, reference: str, image: dict[str, Any], layers: Mapping[str, bytes], last: bytes
) -> Path:
    """Write an archive with one layer more than the image has."""
    image["rootfs"]["diff_ids"].append(f"sha256:{hashlib.sha256(last).hexdigest()}")
    names = [*layers, "last.tar"]
    manifest = {"Config": "config.json", "RepoTags": [reference], "Layers": names}
    with tarfile.open(target, "w") as archive:
        for name, data in {**layers, "last.tar": last}.items():
            _add(archive, name, data)
        _add(archive, "config.json", json.dumps(image).encode())
        _add(archive, "manifest.json", json.dumps([manifest]).encode())
    return target


def _add(archive: tarfile.TarFile, name: str, data: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), mode
    archive.addfile(entry, io.BytesIO(data))


def _content(archive: tarfile.TarFile, name: str) -> bytes:
    content = archive.extractfile(name)
    assert content is not None, name
    return content.read()
