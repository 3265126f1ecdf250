"""One child process: started, listened to, ended.

A child has a session of its own, so that a Ctrl-C in the terminal reaches ``tailrace up`` alone,
which then ends its children in their order, and so that what a child started in turn can be
ended with it. What it writes passes through ``tailrace up``: until the child is ready its lines
are held back, because a start that fails shows the one line that says why, and nothing else.
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

_HELD_LINES: Final = 1000
_LONGEST_LINE: Final = 256 * 1024
_LAST_WORDS: Final = 0.5


class Program(NamedTuple):
    """What to run.

    Attributes:
        name: how the operator calls it, for example ``worker-1``.
        command: the program and its arguments.
        environment: all of its environment.
        until_ready: waits until the process that was just started is ready.
        descriptors: open files that it inherits.
        log: where it writes its log, if not to its output.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    until_ready: Callable[[], Awaitable[object]]
    descriptors: tuple[int, ...] = ()
    log: Path | None = None


class Child:
    """A program and the process that runs it now, if any.

    Attributes:
        held: lines that wait for the child to become ready.
    """

    def __init__(self, program: Program, console: Console, *, prefix: bool) -> None:
        self.program = program
        self.name = program.name
        self.held: deque[bytes] = deque(maxlen=_HELD_LINES)
        self._console = console
        self._prefix = f"{program.name} | ".encode() if prefix else b""
        self._released = False
        self._process: asyncio.subprocess.Process | None = None
        self._listening: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start a process."""
        # A pipe of our own: asyncio's Process.wait() waits for its pipes to close, too, and what
        # the child started in turn may hold them open long after the child has crashed.
        reading, writing = os.pipe()
        try:
            self._process = await asyncio.create_subprocess_exec(
                # -I -S: the launcher needs no site-packages, nor imports from this folder.
                *(sys.executable, "-I", "-S", str(Path(launch.__file__)), str(os.getpid())),
                *self.program.command,
                stdin=asyncio.subprocess.DEVNULL,
                # What is printed by mistake must not end up beside the ready line.
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
        """Wait until the process has ended and its last words are read; return its exit code."""
        if self._process is None or self._listening is None:
            return 0
        code = await self._process.wait()
        # What it started ends with it; nobody else knows of it.
        self._kill_session(self._process)
        # A process that left the session may hold the pipe open for ever.
        await asyncio.wait({self._listening}, timeout=_LAST_WORDS)
        return code

    def release(self) -> None:
        """Pass on what was held back, and from now on everything."""
        self._released = True
        while self.held:
            self._pass_on(self.held.popleft())

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process, if it runs."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    def kill(self) -> None:
        """End the process, and all that it started, at once."""
        if self._process is not None and self._process.returncode is None:
            self._kill_session(self._process)

    @staticmethod
    def _kill_session(process: asyncio.subprocess.Process) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)

    async def _listen(self, descriptor: int) -> None:
        output = asyncio.StreamReader(limit=_LONGEST_LINE)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(output), os.fdopen(descriptor, "rb", 0)
        )
        try:
            while line := await _read_line(output):
                if self._released:
                    self._pass_on(line)
                else:
                    self.held.append(line)
        finally:
            transport.close()

    def _pass_on(self, line: bytes) -> None:
        self._console.pass_on(self._prefix + line)


async def _read_line(output: asyncio.StreamReader) -> bytes:
    try:
        return await output.readline()
    except ValueError:
        # Longer than the limit: the reader has dropped what it held; go on with what follows.
        return b"(a line too long to show)\n"


def describe_exit(code: int) -> str:
    """Say how a process ended: by which signal, or with which exit code."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
