"""The data folder of ``tailrace up`` and its lock."""

import fcntl
import os
import time
from pathlib import Path
from typing import Final

from tailrace.errors import StartError

_LOCK_TIMEOUT_S: Final = 1.0


class DataDir:
    """A writable folder, locked against other ``tailrace up`` processes.

    The lock belongs to an open file, not to a process. NATS inherits the descriptor, so the store
    stays locked until that NATS has ended, even if ``tailrace up`` ends first.
    """

    def __init__(self, path: Path) -> None:
        """Create and lock the folder.

        Raises:
            StartError: the folder cannot be written, or is in use.
        """
        self.path = path.absolute()
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o644)
            self._acquire()
            os.truncate(self.lock, 0)
            os.write(self.lock, f"{os.getpid()}\n".encode())
        except OSError as error:
            raise StartError(
                f"cannot write to {path}: {error.strerror}; choose another folder with --data-dir"
            ) from None

    def _acquire(self) -> None:
        deadline = time.monotonic() + _LOCK_TIMEOUT_S
        while True:
            try:
                fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                # The NATS of a killed predecessor holds the lock until it has ended.
                if time.monotonic() < deadline:
                    time.sleep(0.05)
                    continue
                owner = os.pread(self.lock, 32, 0).decode(errors="replace").strip()
                raise StartError(
                    f"another `tailrace up` (pid {owner}) uses {self.path}; "
                    "stop it, or choose another folder with --data-dir"
                ) from None
            return
