"""The supervisor of several API processes on one port, for machines with several processors.

The processes share only the port and NATS, like replicas on several machines. The kernel spreads
connections over them. A process that dies is replaced; SIGTERM and SIGINT are passed on to all.
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

# The delay before a dead process is replaced, in case its cause of death persists.
_RESTART_DELAY_S: Final = 1.0
_PR_SET_PDEATHSIG: Final = 1
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

_log = structlog.get_logger("tailrace.api")


class Supervisor:
    """Keeps a number of processes running.

    Args:
        serve: Serves in a child process and returns its exit code. Code 2 means that no process
            can start, so the supervisor stops instead of retrying.
    """

    def __init__(self, count: int, serve: Callable[[], int]) -> None:
        self._count = count
        self._serve = serve
        self._processes: set[ForkProcess] = set()
        self._is_stopping = False

    def run(self) -> int:
        """Run until a signal arrives or a process cannot start; return the exit code."""
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
        """Handle the end of a process; replace it if that was unexpected. Return the exit code."""
        code = process.exitcode or 0
        if code == 2:
            self._stop()
        elif not self._is_stopping:
            _log.error("process ended unexpectedly", pid=process.pid, code=code)
            time.sleep(_RESTART_DELAY_S)
            self._start()
        return code if code == 2 else 0

    def _start(self) -> None:
        # Signals are blocked until the parent has recorded the child, and until the child has reset
        # its handlers.
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
            # The kernel stops the children if the supervisor is killed.
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        sys.exit(self._serve())

    def _stop(self) -> None:
        self._is_stopping = True
        for process in self._processes:
            process.terminate()
