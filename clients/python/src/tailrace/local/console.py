"""Write lines for the operator without blocking on the reader.

``tailrace up`` must keep supervising even if its stderr is a full pipe; a blocked write would stop
restarts and the clean shutdown. Lines therefore go through a bounded queue to a thread that may
block, and lines that do not fit are dropped.
"""

import contextlib
import os
import queue
import threading
from typing import Final

_MAX_QUEUED_LINES: Final = 10_000
_CLOSE_TIMEOUT_S: Final = 0.4
_STDERR: Final = 2


class Console:
    """Writes lines to stderr from a dedicated thread."""

    def __init__(self, descriptor: int = _STDERR) -> None:
        self._descriptor = descriptor
        self._lines: queue.Queue[bytes | None] = queue.Queue(_MAX_QUEUED_LINES)
        self._thread = threading.Thread(target=self._write, name="console", daemon=True)
        self._thread.start()

    def say(self, line: str) -> None:
        """Queue one line of ``tailrace up`` itself."""
        self.forward(f"{line}\n".encode(errors="backslashreplace"))

    def forward(self, line: bytes) -> None:
        """Queue a line of a child."""
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait(line)

    def close(self) -> None:
        """Write the queued lines, but wait for a slow reader only briefly."""
        with contextlib.suppress(queue.Full):
            self._lines.put(None, timeout=_CLOSE_TIMEOUT_S)
            self._thread.join(_CLOSE_TIMEOUT_S)

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            view = memoryview(line)
            try:
                while view:
                    view = view[os.write(self._descriptor, view) :]
            except OSError:
                return  # The reader has closed the pipe.
