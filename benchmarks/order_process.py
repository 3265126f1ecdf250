"""A process that carries out orders: a line with each, and a line of JSON with its answer."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

_MAX_ANSWER_BYTES: Final = 256 * 1024 * 1024


class OrderProcess:
    """The process, which carries out one order at a time."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def ask(self, *order: object) -> Any:
        """Give an order and return its answer.

        Raises:
            RuntimeError: the process has ended.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write((" ".join(map(str, order)) + "\n").encode())
        answer = await self._process.stdout.readline()
        if not answer:
            raise RuntimeError("the process of the readers has ended")
        return json.loads(answer)


@asynccontextmanager
async def order_process(module: str, *arguments: object) -> AsyncIterator[OrderProcess]:
    """Run a module in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", module, *map(str, arguments)),
        stdin=PIPE,
        stdout=PIPE,
        limit=_MAX_ANSWER_BYTES,
    )
    try:
        yield OrderProcess(process)
    finally:
        process.kill()
        await process.communicate()
