"""A small disk of its own for a server: an ext4 file system in a file, mounted in the sandbox."""

import os
import shutil
from pathlib import Path
from typing import Final

from harness.faults.network import run

_BALLAST: Final = "ballast"
_BLOCK_BYTES: Final = 4096


class Disk:
    """A file system that can be filled, made read-only and wiped while a server uses it.

    Args:
        folder: for the file and the mount point.
        megabytes: the size.

    Attributes:
        path: the mount point.
    """

    def __init__(self, folder: Path, megabytes: int) -> None:
        folder.mkdir(parents=True)
        image = folder / "image"
        self.path = folder / "disk"
        self.path.mkdir()
        run("truncate", "-s", f"{megabytes}M", str(image))
        # No reserve for root, which the server is; no journal, which would take half of the space.
        options = ("-m", "0", "-O", "^has_journal", "-i", "4096")
        run("mkfs.ext4", "-q", "-F", *options, str(image))
        run("mount", "-o", "loop,noatime", str(image), str(self.path))

    def fill(self) -> None:
        """Take all free space, to the last block."""
        with (self.path / _BALLAST).open("ab") as ballast:
            taken, size = 0, _BLOCK_BYTES << 20
            while size >= _BLOCK_BYTES:
                try:
                    os.posix_fallocate(ballast.fileno(), taken, size)
                except OSError:
                    size //= 2
                else:
                    taken += size

    def free(self) -> None:
        """Undo :meth:`fill`."""
        (self.path / _BALLAST).unlink(missing_ok=True)

    def make_read_only(self) -> None:
        """Refuse all writes, also to files that are open, as a failed disk does.

        A remount is refused while files are open, so every file becomes immutable.
        """
        run("chattr", "-R", "-f", "+i", str(self.path))

    def make_writable(self) -> None:
        """Undo :meth:`make_read_only`."""
        run("chattr", "-R", "-f", "-i", str(self.path))

    def wipe(self) -> None:
        """Remove all files; no server may use them."""
        for path in self.path.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
