"""Install a service and its pinned dependencies into a folder: ``install.py api|worker FOLDER``.

The Dockerfiles and ``build.py`` use it, so that their images have the same files. It needs uv.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
EXTRAS: Final = {"api": "[tracing]", "worker": "[engine,tracing]"}
"""The services, and the extras of their distributions that run and trace them."""
_TRACE: Final = re.compile(r"(^|/)(direct_url\.json|uv_cache\.json|INSTALLER|REQUESTED|\.lock),")
"""Files with paths and times of the installation, as the lines of a RECORD begin."""


def install(service: str, target: Path) -> None:
    """Install a service.

    Raises:
        CalledProcessError: uv failed; its message is on stderr.
    """
    with tempfile.TemporaryDirectory() as folder:
        wheels, pins = Path(folder, "wheels"), Path(folder, "pins.txt")
        _uv("build", "--all-packages", "--wheel", "-o", str(wheels))
        _uv("export", "--no-hashes", "--no-dev", "--no-emit-workspace", "-o", str(pins))
        [shared], [own] = wheels.glob("tailrace_shared-*"), wheels.glob(f"tailrace_{service}-*")

        requirements = (str(shared), f"{own}{EXTRAS[service]}")
        options = ("--no-config", "--python", sys.executable, "--target", str(target))
        _uv("pip", "install", *options, "--constraints", str(pins), *requirements)
    _remove_traces(target)


def _remove_traces(target: Path) -> None:
    """Remove what tells where and when the files were installed, so that two builds are equal."""
    for record in target.glob("*.dist-info/RECORD"):
        lines = record.read_text().splitlines(keepends=True)
        record.write_text("".join(line for line in lines if not _TRACE.search(line)))
    for path in list(target.rglob("*")):
        if _TRACE.search(f"{path.relative_to(target)},"):
            path.unlink()


def _uv(*arguments: str) -> None:
    program = os.environ.get("UV") or shutil.which("uv") or "uv"
    subprocess.run([program, "--quiet", *arguments], cwd=ROOT, check=True)  # noqa: S603 - its own


def main() -> int:
    """Install the service that the command line names; return the exit status."""
    if len(sys.argv) != 3 or sys.argv[1] not in EXTRAS:
        sys.stderr.write("usage: install.py api|worker FOLDER\n")
        return 2
    install(sys.argv[1], Path(sys.argv[2]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
