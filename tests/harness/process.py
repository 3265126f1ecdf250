"""A service as a process: started, waited for until it says that it is ready, ended."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Self

_START_SECONDS = 15.0


class ServiceProcess:
    """``python -m <module>`` with settings of its own and nothing else of Tailrace's.

    Args:
        module: what to run.
        environment: settings, by the names of their variables.
    """

    def __init__(self, module: str, environment: Mapping[str, str]) -> None:
        self.module = module
        self.environment = dict(environment)
        self._folder = tempfile.TemporaryDirectory(prefix="tailrace-test-")
        self.log = Path(self._folder.name) / "stderr.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start the process and return when it has said that it is ready."""
        address = str(Path(self._folder.name) / "notify")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.bind(address)
            channel.settimeout(0.1)
            self._process = self._spawn(address)
            self._await_ready(channel)
        Path(address).unlink()
        return self

    def _spawn(self, notify_address: str) -> subprocess.Popen[bytes]:
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith("TAILRACE_")
        }
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", self.module],
                env={**inherited, **self.environment, "NOTIFY_SOCKET": notify_address},
                stdout=log,
                stderr=log,
            )

    def _await_ready(self, channel: socket.socket) -> None:
        for _ in range(int(_START_SECONDS / 0.1)):
            try:
                if channel.recv(256) == b"READY=1":
                    return
            except TimeoutError:
                if self._process is not None and self._process.poll() is not None:
                    break
        output = self.output()
        self.kill()
        raise RuntimeError(f"{self.module} did not become ready: {output}")

    @property
    def pid(self) -> int:
        """The id of the running process."""
        assert self._process is not None
        return self._process.pid

    def output(self) -> str:
        """Return what the process has written so far."""
        return self.log.read_text()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self, seconds: float = 15.0) -> int:
        """Wait for the end of the process; returns its exit code."""
        assert self._process is not None
        return self._process.wait(seconds)

    def stop(self) -> int:
        """End the process in good order; returns its exit code."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """End the process with SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self.signal(signal.SIGTERM)
            try:
                self.wait()
            except subprocess.TimeoutExpired:
                self.kill()
        self._folder.cleanup()
