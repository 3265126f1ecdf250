"""Several processes on one port, for a machine with more processors than one.

They share nothing but the port and NATS, like replicas on several machines do. The kernel spreads
connections over them. One that dies is replaced; SIGTERM and SIGINT go to all of them.
"""

import ctypes
import multiprocessing
import multiprocessing.connection
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.context import ForkProcess
from typing import Final

import structlog

# Before a process that died is replaced: whatever killed it may still be there.
_PAUSE: Final = 1.0
_SIGNAL_AT_PARENTS_DEATH: Final = 1
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

_log = structlog.get_logger("tailrace.api")


class Supervisor:
    """Keeps so many processes running.

    Args:
        count: how many.
        serve: what each does; returns its exit code. Code 2 says that no process can start.
    """

    def __init__(self, count: int, serve: Callable[[], int]) -> None:
        self._count = count
        self._serve = serve
        self._processes: set[ForkProcess] = set()
        self._is_stopping = False

    def run(self) -> int:
        """Run until told to stop, or until a process cannot start; returns the exit code."""
        for number in _SIGNALS:
            signal.signal(number, lambda *_: self._stop())
        for _ in range(self._count):
            self._start()
        code = 0
        while self._processes:
            multiprocessing.connection.wait([process.sentinel for process in self._processes])
            for process in [process for process in self._processes if not process.is_alive()]:
                self._processes.remove(process)
                code = max(code, self._ended(process))
        return code

    def _ended(self, process: ForkProcess) -> int:
        """Replace a process, if it should not have ended; returns what that means for all."""
        code = process.exitcode or 0
        if code == 2:
            self._stop()
        elif not self._is_stopping:
            _log.error("process ended", pid=process.pid, code=code)
            time.sleep(_PAUSE)
            self._start()
        return code if code == 2 else 0

    def _start(self) -> None:
        # A signal waits until the process is known to us, and until it knows itself from us.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            if not self._is_stopping:
                process = ForkProcess(target=self._child)
                process.start()
                self._processes.add(process)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)

    def _child(self) -> None:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        if sys.platform == "linux":
            # Nobody would stop the children of a supervisor that was killed.
            ctypes.CDLL(None).prctl(_SIGNAL_AT_PARENTS_DEATH, signal.SIGTERM)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        sys.exit(self._serve())

    def _stop(self) -> None:
        self._is_stopping = True
        for process in self._processes:
            process.terminate()
