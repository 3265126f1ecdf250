"""Lines for the operator, written without ever waiting for the reader.

``tailrace up`` must go on supervising when nobody reads its stderr: a full pipe would else stop
it, and with it every restart and the clean stop. So lines go through a bounded queue to a thread
that may block, and what does not fit is dropped.
"""

import contextlib
import os
import queue
import threading
from typing import Final

_QUEUED_LINES: Final = 10_000
_MOMENT: Final = 0.4
_STDERR: Final = 2


class Console:
    """Writes lines to stderr from a thread of its own."""

    def __init__(self, descriptor: int = _STDERR) -> None:
        self._descriptor = descriptor
        self._lines: queue.Queue[bytes | None] = queue.Queue(_QUEUED_LINES)
        self._thread = threading.Thread(target=self._write, name="console", daemon=True)
        self._thread.start()

    def say(self, line: str) -> None:
        """Write one line of ``tailrace up`` itself."""
        self.pass_on(f"{line}\n".encode(errors="backslashreplace"))

    def pass_on(self, line: bytes) -> None:
        """Write what a child wrote."""
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait(line)

    def close(self) -> None:
        """Write what is queued, but wait for a slow reader no longer than a moment."""
        with contextlib.suppress(queue.Full):
            self._lines.put(None, timeout=_MOMENT)
            self._thread.join(_MOMENT)

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            view = memoryview(line)
            try:
                while view:
                    view = view[os.write(self._descriptor, view) :]
            except OSError:
                return  # The reader is gone for good.
