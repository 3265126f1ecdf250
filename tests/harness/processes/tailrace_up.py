"""A running ``tailrace up``, and its child processes as ``/proc`` shows them."""

import contextlib
import os
import re
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, Self

from harness.processes.ports import free_port

START_SECONDS: Final = 100.0


class TailraceUp:
    """One ``tailrace up`` with its own data folder and ports.

    Args:
        folder: its data folder and output.
        options: further options.
        environment: variables beside those of this process.
        cwd: the folder in which it starts; that of this process if None.

    Attributes:
        url: the URL of the first API replica, once it is ready.
        port: the port of the first API replica; the others use the next ports.
    """

    def __init__(
        self,
        folder: Path,
        *options: str,
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.folder = folder
        self.port = free_port(4)
        # Do not let it choose: the kernel might give that port to a client before NATS binds it.
        self.nats_port = free_port()
        self.url = ""
        self._options = options
        self._cwd = cwd
        self._environment = {**os.environ, **(environment or {})}
        self._errors = folder / "up.stderr"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start it without waiting until it is ready."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._errors.open("wb") as errors, _default_hangup_handler():
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "tailrace", "up", "--port", str(self.port)),
                    *("--data-dir", str(self.folder / "data"), "--nats-port", str(self.nats_port)),
                    *self._options,
                ],
                stdout=subprocess.PIPE,
                stderr=errors,
                env=self._environment,
                cwd=self._cwd,
            )
        return self

    def wait_ready(self) -> Self:
        """Wait until it prints that it is ready."""
        line = self._read_line()
        match = re.fullmatch(r"ready (http://\S+)\n", line)
        if match is None:
            raise RuntimeError(f"not ready: {line!r} {self.stderr()}")
        self.url = match[1]
        return self

    @property
    def pid(self) -> int:
        """The id of the ``tailrace up`` process."""
        return self._started.pid

    def stderr(self) -> str:
        """Return its stderr so far."""
        return self._errors.read_text(errors="replace")

    def wait_stderr(self, pattern: str, seconds: float = 60.0) -> re.Match[str]:
        """Wait until a pattern matches its stderr; return the first match."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if match := re.search(pattern, self.stderr()):
                return match
            time.sleep(0.02)
        raise RuntimeError(f"no {pattern!r} in: {self.stderr()}")

    def children(self) -> dict[int, str]:
        """Return the command lines of its child processes, by process id."""
        listed = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return {int(pid): command_line(int(pid)) for pid in listed}

    def child(self, part: str) -> int:
        """Return the process id of the one child whose command line contains ``part``."""
        (pid,) = [pid for pid, command in self.children().items() if part in command]
        return pid

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._started.send_signal(number)

    def poll(self) -> int | None:
        """Return its exit code, or None if it still runs."""
        return self._started.poll()

    def wait(self, seconds: float = 60.0) -> int:
        """Wait until it ends; return its exit code."""
        return self._started.wait(seconds)

    def rest_of_stdout(self) -> str:
        """Wait until it ends; return what it printed after the line ``ready``."""
        assert self._started.stdout is not None
        return self._started.stdout.read().decode()

    def stop(self) -> None:
        """Stop it as Ctrl-C does."""
        if self._process is not None:
            if self._process.poll() is None:
                self._process.send_signal(signal.SIGINT)
            self._process.wait(60)
            assert self._process.stdout is not None
            self._process.stdout.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def _started(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    def _read_line(self) -> str:
        assert self._started.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._started.stdout, selectors.EVENT_READ)
            if not selector.select(START_SECONDS):
                raise RuntimeError(f"not ready within {START_SECONDS} s: {self.stderr()}")
        return self._started.stdout.readline().decode()


@contextlib.contextmanager
def _default_hangup_handler() -> Iterator[None]:
    """Restore the default for SIGHUP, which children would ignore if tests run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


def command_line(pid: int) -> str:
    """Return the command line of a process, empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def wait_gone(pids: list[int], seconds: float = 60.0) -> None:
    """Wait until all processes have ended. A zombie counts: it has no command line."""
    deadline = time.monotonic() + seconds
    while left := [pid for pid in pids if command_line(pid)]:
        if time.monotonic() > deadline:
            raise RuntimeError(f"still running: {[command_line(pid) for pid in left]}")
        time.sleep(0.01)
