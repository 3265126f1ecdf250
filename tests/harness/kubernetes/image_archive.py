"""Image archives that containerd imports, written without an engine."""

import hashlib
import io
import json
import tarfile
from pathlib import Path


def write_image(target: Path, reference: str, program: Path) -> Path:
    """Write an image whose only file is a static program; return its archive."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as files:
        entry = tarfile.TarInfo("program")
        entry.size, entry.mode = program.stat().st_size, 0o755
        with program.open("rb") as content:
            files.addfile(entry, content)
    digest = hashlib.sha256(layer.getvalue()).hexdigest()
    image = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"User": "65532:65532", "Entrypoint": ["/program"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }
    manifest = {"Config": "config.json", "RepoTags": [reference], "Layers": ["layer.tar"]}
    members = {
        "layer.tar": layer.getvalue(),
        "config.json": json.dumps(image).encode(),
        "manifest.json": json.dumps([manifest]).encode(),
    }
    with tarfile.open(target, "w") as archive:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return target
