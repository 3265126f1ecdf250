"""A tenant that uses an installation, in a process of its own, as a test controls it."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final, Self

import msgspec

from harness.hostile.measurement import Report

_TESTS: Final = Path(__file__).parents[2]


class Bystander:
    """A tenant that starts a run, approves it and reads lists every second.

    Args:
        order: what it uses (see ``bystander_process``).
    """

    def __init__(self, **order: Any) -> None:
        self._order = json.dumps(order)
        self._process: subprocess.Popen[str]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "harness.hostile.bystander_process", self._order],
            env={**os.environ, "PYTHONPATH": str(_TESTS)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End its process."""
        self._process.kill()
        if self._process.stdin and not self._process.stdin.closed:
            self._process.communicate()

    async def report(self) -> Report:
        """Return the slowest operations since the last report, once its round is complete."""
        return await asyncio.to_thread(self._report)

    def _report(self) -> Report:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write("report\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the bystander has failed: {self._process.communicate()[1]}")
        return msgspec.json.decode(line, type=Report)
