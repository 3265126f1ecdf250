"""A service as a child process, from start to readiness to its end."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from harness.processes.freezing import freeze


class Service:
    """One process of a Python module, for example ``tailrace_worker``.

    Args:
        module: run as ``python -m module``.
        environment: added to the caller's environment without its ``TAILRACE_`` variables.
        log: the file for its output.
    """

    def __init__(self, module: str, environment: Mapping[str, str], log: Path) -> None:
        self._module = module
        self._log = log
        base = {key: value for key, value in os.environ.items() if not key.startswith("TAILRACE_")}
        self._environment = {**base, **environment}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, timeout: float = 300.0) -> Self:
        """Start the process and return when it has sent READY=1 (the sd_notify protocol)."""
        with (
            tempfile.TemporaryDirectory() as folder,
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready,
        ):
            address = f"{folder}/ready"
            ready.bind(address)
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", self._module],
                    env={**self._environment, "NOTIFY_SOCKET": address},
                    stdout=log,
                    stderr=log,
                )
            ready.settimeout(0.1)
            for _ in range(int(timeout * 10)):
                try:
                    if ready.recv(64).startswith(b"READY=1"):
                        return self
                except TimeoutError:
                    if self._process.poll() is not None:
                        break
        raise RuntimeError(f"{self._module} did not become ready: {self._log.read_text()}")

    def set_environment(self, **environment: str) -> None:
        """Change variables of the environment before the start."""
        self._environment |= environment

    @property
    def pid(self) -> int:
        """The id of the running process."""
        assert self._process is not None
        return self._process.pid

    @property
    def log_text(self) -> str:
        """The output of the process so far."""
        return self._log.read_text()

    def kill(self) -> None:
        """Send SIGKILL: no handler runs and no job is handed over."""
        self._end(signal.SIGKILL)

    def stop(self, timeout: float = 100.0) -> int:
        """Send SIGTERM, as a deployment does; return the exit code."""
        return self._end(signal.SIGTERM, timeout)

    def wait(self, timeout: float = 100.0) -> int:
        """Wait until the process ends by itself; return its exit code."""
        assert self._process is not None
        return self._process.wait(timeout)

    def freeze(self) -> None:
        """Suspend the process with SIGSTOP."""
        freeze(self.pid)

    def thaw(self) -> None:
        """Resume a frozen process with SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def _end(self, how: signal.Signals, timeout: float = 100.0) -> int:
        if self._process is None:
            return 0
        self._process.send_signal(how)
        try:
            return self._process.wait(timeout)
        finally:
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()
            self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()
