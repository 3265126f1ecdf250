"""Build Kubernetes from the Go module proxy: ``python -m harness.kubernetes.binaries``.

One binary has etcd, the API server, the controller manager, the scheduler, the kubelet and
kube-proxy. The first build takes about 520 seconds of processor time and 3 GB of Go's cache. The
result is kept in ``.tools``, under a name with the hash of what it was built from.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tools.kubernetes_tools import FOLDER

_VERSION: Final = "1.34.4"
_PROGRAMS: Final = Path(__file__).parent / "programs"
_SAMPLES: Final = ("sample-apiserver", "sample-cli-plugin", "sample-controller")
"""Modules that Kubernetes requires for its own tests; the proxy does not have all of them."""


def kubernetes_binary() -> Path:
    """Return the binary with all parts of Kubernetes; build it if it is missing."""
    return _built("kubernetes", _build_kubernetes)


def pause_binary() -> Path:
    """Return the static program of a pod's first container; build it if it is missing."""
    return _built("pause", _build_pause)


def _built(name: str, build: object) -> Path:
    source = (_PROGRAMS / name / "main.go").read_bytes()
    inputs = hashlib.sha256(_VERSION.encode() + source + Path(__file__).read_bytes())
    binary = FOLDER / f"{name}-{inputs.hexdigest()[:12]}"
    if not binary.exists():
        if shutil.which("go") is None:
            raise RuntimeError("Go is missing: apt-get install golang-go")
        FOLDER.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            shutil.copy(_PROGRAMS / name / "main.go", folder)
            built = Path(folder, "binary")
            assert callable(build)
            build(Path(folder), built)
            shutil.copy(built, binary.with_suffix(".new"))
        binary.with_suffix(".new").rename(binary)
    return binary


def _build_pause(folder: Path, target: Path) -> None:
    (folder / "go.mod").write_text("module tailrace.test/pause\n\ngo 1.24\n")
    _go(folder, "build", "-trimpath", "-ldflags", "-s -w", "-o", str(target), ".")


def _build_kubernetes(folder: Path, target: Path) -> None:
    module = f"k8s.io/kubernetes@v{_VERSION}"
    described = json.loads(_go(folder, "mod", "download", "-json", module))
    for name in _SAMPLES:
        empty = folder / name
        empty.mkdir()
        (empty / "go.mod").write_text(f"module k8s.io/{name}\n\ngo 1.24.0\n")
    original = Path(described["GoMod"]).read_text()
    (folder / "go.mod").write_text("\n".join(_requirements(original)) + "\n")
    major, minor, _ = _VERSION.split(".")
    versions = {
        "k8s.io/component-base/version.gitVersion": f"v{_VERSION}",
        "k8s.io/component-base/version.gitMajor": major,
        "k8s.io/component-base/version.gitMinor": minor,
        "k8s.io/client-go/pkg/version.gitVersion": f"v{_VERSION}",
    }
    flags = " ".join(["-s -w", *(f"-X {name}={value}" for name, value in versions.items())])
    _go(folder, "build", "-mod=mod", "-trimpath", "-ldflags", flags, "-o", str(target), ".")


def _requirements(original: str) -> Iterator[str]:
    """Yield a ``go.mod`` with the pins of Kubernetes, its own modules at published versions."""
    [go] = re.findall(r"(?m)^go (\S+)$", original)
    yield f"module tailrace.test/kubernetes\n\ngo {go}\n\nrequire k8s.io/kubernetes v{_VERSION}"
    pins = re.findall(r"(?m)^\s*([\w./~-]+) (v\S+)(?: // indirect)?$", original)
    yield from (f"require {module} {version}" for module, version in pins if version != "v0.0.0")
    own = re.findall(r"(?m)^\s*k8s\.io/(\S+) => \./staging/", original)
    published = f"v0.{_VERSION.removeprefix('1.')}"
    for name in sorted(set(own)):
        if name in _SAMPLES:
            yield f"replace k8s.io/{name} => ./{name}"
        else:
            yield f"replace k8s.io/{name} => k8s.io/{name} {published}"
            yield f"require k8s.io/{name} {published}"


def _go(folder: Path, *arguments: str) -> str:
    environment = {**os.environ, "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"}
    command = ["go", *arguments]
    return subprocess.check_output(command, cwd=folder, env=environment, text=True)


def main() -> int:
    """Build what is missing, and print the paths."""
    sys.stdout.write(f"{kubernetes_binary()}\n{pause_binary()}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
