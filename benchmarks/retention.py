"""Measure what it costs NATS to keep executions until their end and delete them afterwards.

Three ways are compared on the same log of executions with ten commits each, written side by side:

- ``delete``: no message expires. Ended executions are deleted one by one, by subject.
- ``truncate``: no message expires. The log is truncated up to the oldest execution that is kept.
- ``checkpoint``: messages expire by age. An execution that has not ended appends its folded state
  again before its oldest message expires. Its history is lost, so an execution that ends is not
  whole.

A part of the executions has not ended and waits. Disk is measured after the server's
``sync_interval``, when it has compacted its blocks. CPU is user and system time of the
server.
"""

import argparse
import asyncio
import random
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nats.aio.client import Client
from nats.aio.msg import Msg

from benchmarks.table import Row, print_rows
from harness.nats.server import NatsServer
from harness.processes.process_usage import cpu_seconds
from tailrace_shared.nats.jetstream import JetStream, connect
from tailrace_shared.settings import CommonSettings

_COMMITS: Final = 10
_COMMITS_OF_A_WAIT: Final = 5
_COMMIT_BYTES: Final = 400
_STATE_BYTES: Final = 2_000
_SIDE_BY_SIDE: Final = 200
_IN_FLIGHT: Final = 4_000
_AT_ONCE: Final = 16
_STREAM: Final = "EVENTS"


@dataclass(frozen=True, slots=True)
class _Load:
    """The executions of a measurement.

    Attributes:
        executions: how many executions the log holds.
        waiting: the numbers of those that have not ended.
    """

    executions: int
    waiting: frozenset[int]

    @classmethod
    def of(cls, executions: int, waiting: int) -> "_Load":
        """Choose which executions wait, the same ones in every run."""
        chosen = random.Random(1).sample(range(executions), waiting)
        return cls(executions, frozenset(chosen))

    def subject(self, number: int) -> str:
        """Return the subject of an execution's log."""
        return f"tr.log.t{number % 20}.e{number:08d}"

    def commits(self) -> Iterable[str]:
        """Yield the subject of every commit, in the order of the log."""
        for first in range(0, self.executions, _SIDE_BY_SIDE):
            numbers = range(first, min(first + _SIDE_BY_SIDE, self.executions))
            for commit in range(_COMMITS):
                for number in numbers:
                    if number not in self.waiting or commit < _COMMITS_OF_A_WAIT:
                        yield self.subject(number)


class _Log:
    """A stream on a NATS server of its own, which compacts its blocks every ``sync_s`` seconds."""

    def __init__(self, server: NatsServer, client: Client, sync_s: float) -> None:
        self._server = server
        self._sync_s = sync_s
        self._client = client
        self._jetstream = JetStream(client)

    async def create(self) -> None:
        """Create the stream."""
        spec = {"name": _STREAM, "subjects": ["tr.log.*.*"], "allow_direct": True}
        await self._jetstream.api(f"STREAM.CREATE.{_STREAM}", spec)

    async def write(self, subjects: Iterable[str], size: int) -> None:
        """Store a message on each subject, pipelined."""
        stored, sent = 0, 0
        moved = asyncio.Event()
        inbox = self._client.new_inbox()

        async def count(_message: Msg) -> None:
            nonlocal stored
            stored += 1
            moved.set()

        await self._client.subscribe(inbox, cb=count)
        payload = b"x" * size
        for subject in subjects:
            await self._client.publish(subject, payload, reply=inbox)
            sent += 1
            while sent - stored > _IN_FLIGHT:
                moved.clear()
                await moved.wait()
        while stored < sent:
            moved.clear()
            await moved.wait()

    async def delete(self, subjects: Iterable[str]) -> None:
        """Delete all messages of each subject, several subjects at once."""
        limit = asyncio.Semaphore(_AT_ONCE)

        async def purge(subject: str) -> None:
            async with limit:
                await self._jetstream.api(f"STREAM.PURGE.{_STREAM}", {"filter": subject})

        await asyncio.gather(*map(purge, subjects))

    async def truncate(self, up_to: int) -> None:
        """Delete all messages before a sequence."""
        await self._jetstream.api(f"STREAM.PURGE.{_STREAM}", {"seq": up_to})

    async def first_of(self, subject: str) -> int:
        """Return the sequence of the first message of a subject."""
        message = await self._jetstream.get(_STREAM, {"seq": 1, "next_by_subj": subject})
        assert message is not None
        return message.sequence

    async def messages(self) -> int:
        """Return how many messages the stream has."""
        info = await self._jetstream.api(f"STREAM.INFO.{_STREAM}")
        return int(info["state"]["messages"])

    async def disk_bytes(self) -> int:
        """Return the size of the store once the server has compacted it."""
        await asyncio.sleep(3 * self._sync_s)
        store = self._server.folder / "store"
        return sum(file.stat().st_size for file in store.rglob("*") if file.is_file())


async def _measure(way: str, load: _Load, sync_s: float) -> Row:
    with tempfile.TemporaryDirectory() as folder:
        server = NatsServer(Path(folder) / "nats", sync_interval=f"{sync_s:g}s")
        with server:
            client = await connect(CommonSettings(nats_url=server.url), "bench")
            log = _Log(server, client, sync_s)
            await log.create()
            await log.write(load.commits(), _COMMIT_BYTES)
            before = await log.disk_bytes()
            began, cpu = time.perf_counter(), cpu_seconds(server.pid)
            await _expire(way, log, load)
            seconds, cpu = time.perf_counter() - began, cpu_seconds(server.pid) - cpu
            after, messages = await log.disk_bytes(), await log.messages()
            await client.close()
    ended = load.executions - len(load.waiting)
    return {
        "way": way,
        "ended": ended,
        "waiting": len(load.waiting),
        "messages after": messages,
        "disk before, MB": round(before / 1e6, 1),
        "disk after, MB": round(after / 1e6, 1),
        "seconds": round(seconds, 2),
        "NATS CPU, s": round(cpu, 2),
        "NATS CPU an ended execution, ms": round(cpu / ended * 1e3, 3),
    }


async def _expire(way: str, log: _Log, load: _Load) -> None:
    waiting = sorted(load.waiting)
    match way:
        case "delete":
            ended = (n for n in range(load.executions) if n not in load.waiting)
            await log.delete(map(load.subject, ended))
        case "truncate":
            oldest = min(waiting, default=None)
            first = None if oldest is None else await log.first_of(load.subject(oldest))
            await log.truncate(first or load.executions * _COMMITS + 1)
        case "checkpoint":
            await log.write(map(load.subject, waiting), _STATE_BYTES)
            # What age would delete: everything before the checkpoints.
            await log.truncate(load.executions * _COMMITS - len(waiting) * _COMMITS_OF_A_WAIT + 1)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--executions", type=int, default=110_000)
    parser.add_argument("--waiting", type=int, default=10_000, help="executions that do not end")
    parser.add_argument(
        "--sync-seconds", type=float, default=2.0, help="the sync_interval of the server"
    )
    arguments = parser.parse_args()
    load = _Load.of(arguments.executions, arguments.waiting)
    rows = [
        asyncio.run(_measure(way, load, arguments.sync_seconds))
        for way in ("delete", "truncate", "checkpoint")
    ]
    print_rows(rows, as_json=arguments.json)


if __name__ == "__main__":
    main()
