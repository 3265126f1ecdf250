"""Start a child process, forward its output, and stop it.

A child runs in its own session. A Ctrl-C in the terminal therefore reaches only ``tailrace up``,
which stops its children in order, and processes that a child started are killed with it. The
child's output passes through ``tailrace up``. Until the child is ready its lines are buffered,
because a failed start shows only the line with the cause.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from tailrace.local import launch
from tailrace.local.console import Console

_MAX_HELD_LINES: Final = 1000
_MAX_LINE_BYTES: Final = 256 * 1024
_LAST_OUTPUT_S: Final = 0.5


class Program(NamedTuple):
    """A program to run as a child process.

    Attributes:
        name: name shown to the operator, for example ``worker-1``.
        command: the program and its arguments.
        environment: the complete environment.
        until_ready: waits until the started process is ready.
        descriptors: open file descriptors to inherit.
        log: its log file, if it does not log to its output.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    until_ready: Callable[[], Awaitable[object]]
    descriptors: tuple[int, ...] = ()
    log: Path | None = None


class Child:
    """A program and its current process, if any.

    Attributes:
        held: lines buffered until the child is ready.
    """

    def __init__(self, program: Program, console: Console, *, prefix: bool) -> None:
        self.program = program
        self.name = program.name
        self.held: deque[bytes] = deque(maxlen=_MAX_HELD_LINES)
        self._console = console
        self._prefix = f"{program.name} | ".encode() if prefix else b""
        self._released = False
        self._process: asyncio.subprocess.Process | None = None
        self._listening: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the process."""
        # A separate pipe: asyncio's Process.wait() also waits for its pipes to close, and
        # grandchildren may hold them open long after the child has crashed.
        reading, writing = os.pipe()
        try:
            self._process = await asyncio.create_subprocess_exec(
                # -I -S: the launcher needs neither site-packages nor imports from this folder.
                *(sys.executable, "-I", "-S", str(Path(launch.__file__)), str(os.getpid())),
                *self.program.command,
                stdin=asyncio.subprocess.DEVNULL,
                # Stray output must not mix with the ready line on stdout.
                stdout=writing,
                stderr=writing,
                env=self.program.environment,
                pass_fds=self.program.descriptors,
                start_new_session=True,
            )
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        self._listening = asyncio.create_task(self._listen(reading))

    async def ended(self) -> int:
        """Wait until the process has ended and its output is read; return its exit code."""
        if self._process is None or self._listening is None:
            return 0
        code = await self._process.wait()
        # Kill its children too; no other process manages them.
        self._kill_session(self._process)
        # A process that left the session may hold the pipe open forever.
        await asyncio.wait({self._listening}, timeout=_LAST_OUTPUT_S)
        return code

    def release(self) -> None:
        """Forward the buffered lines, and all further lines at once."""
        self._released = True
        while self.held:
            self._forward(self.held.popleft())

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process, if it runs."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    def kill(self) -> None:
        """Kill the process and its descendants in the session."""
        if self._process is not None and self._process.returncode is None:
            self._kill_session(self._process)

    @staticmethod
    def _kill_session(process: asyncio.subprocess.Process) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)

    async def _listen(self, descriptor: int) -> None:
        output = asyncio.StreamReader(limit=_MAX_LINE_BYTES)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(output), os.fdopen(descriptor, "rb", 0)
        )
        try:
            while line := await _read_line(output):
                if self._released:
                    self._forward(line)
                else:
                    self.held.append(line)
        finally:
            transport.close()

    def _forward(self, line: bytes) -> None:
        self._console.forward(self._prefix + line)


async def _read_line(output: asyncio.StreamReader) -> bytes:
    try:
        return await output.readline()
    except ValueError:
        # Longer than the limit: the reader has dropped its buffer; continue after it.
        return b"(a line too long to show)\n"


def describe_exit(code: int) -> str:
    """Return the signal or exit code of an ended process as text."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
