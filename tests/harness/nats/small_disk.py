"""A file system of a few megabytes, which a test fills and frees."""

import contextlib
import os
import subprocess
from pathlib import Path
from typing import Final, Self

from harness.processes.required_tools import skip_or_fail

_BALLAST_BYTES: Final = 1024 * 1024


class SmallDisk:
    """A file system in memory, mounted on a folder.

    A test that cannot mount is skipped, and fails where CI is set.

    Args:
        folder: where to mount it.
        megabytes: its size.
    """

    def __init__(self, folder: Path, megabytes: int) -> None:
        self.folder = folder
        self._megabytes = megabytes

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        options = f"size={self._megabytes}m,mode=0777"
        error = _as_root("mount", "-t", "tmpfs", "-o", options, "none", str(self.folder))
        if error:
            skip_or_fail("the right to mount", f"run as root, or with sudo: {error}")
        return self

    def __exit__(self, *_: object) -> None:
        # A process that is just ending may still hold a file.
        _as_root("umount", "-l", str(self.folder))

    @property
    def _ballast(self) -> Path:
        return self.folder / "ballast"

    def fill(self) -> None:
        """Leave not a byte free."""
        with self._ballast.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(_BALLAST_BYTES)):
                pass

    def free(self) -> None:
        """Free what ``fill`` took."""
        self._ballast.unlink()


def _as_root(*command: str) -> str:
    """Run a command as root; return its error, or an empty string."""
    prefix = [] if os.geteuid() == 0 else ["sudo", "-n"]
    done = subprocess.run([*prefix, *command], capture_output=True, text=True, check=False)
    return done.stderr.strip() or "failed" if done.returncode else ""
