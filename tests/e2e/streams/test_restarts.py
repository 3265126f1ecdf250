"""Cut anywhere, with real processes: NATS restarts, replicas are killed, live messages get lost.

The same with thousands of seeds in memory is in `tests/unit/api/test_hub_cuts.py`.
"""

import asyncio
import contextlib
import random
from collections.abc import Sequence
from pathlib import Path

import nats
import pytest

from harness.generators import hand_written_log as written
from harness.generators.hand_written_log import HandWrittenLog
from harness.nats.server import NatsServer
from harness.nats.tcp_proxy import Proxy
from harness.processes.api_process import ApiProcess, api_replicas
from harness.sse.client import SseEvent, follow, places

_SEEDS = 12


async def _read(ports: Sequence[int], log: HandWrittenLog, dice: random.Random) -> list[SseEvent]:
    """Read an execution to its end, over any number of connections."""
    events: list[SseEvent] = []
    last_event_id = ""
    while True:
        await asyncio.sleep(dice.uniform(0, 0.05))
        stream = follow(dice.choice(ports), log.execution, last_event_id)
        with contextlib.suppress(OSError):
            async with stream:
                cut = dice.choice([0, 0, dice.randrange(1, 4000)])
                if cut:
                    some = await stream.until_cut(cut)
                else:
                    # A connection that is lost takes nothing along that was read from it.
                    some = []
                    with contextlib.suppress(OSError):
                        async for event in stream:
                            some.append(event)
                events += some
        if stream.status == 204:
            return events
        assert stream.status in (0, 200)
        last_event_id = stream.parser.last_event_id or last_event_id


async def _write(server: NatsServer, log: HandWrittenLog, dice: random.Random) -> None:
    """Write an execution while NATS is stopped and started, and killed and started."""
    for number in range(40):
        if number in (12, 28):
            await log.client.close()
            (server.stop if number == 12 else server.kill)()
            server.start()
            log.client = await nats.connect(server.url)
        await log.commit(
            *[written.step_log("n", f"{number}" + "x" * dice.choice([0, 500, 20_000]))]
            * dice.randint(1, 3)
        )
        await asyncio.sleep(dice.uniform(0, 0.05))
    await log.complete()


async def _kill(
    replicas: Sequence[ApiProcess], dice: random.Random, is_over: asyncio.Event
) -> None:
    """Kill one replica after the other, each as soon as the one before is back."""
    while not is_over.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(is_over.wait(), dice.uniform(0.3, 0.8))
        replica = dice.choice(replicas)
        await asyncio.to_thread(replica.kill)
        with contextlib.suppress(RuntimeError):  # NATS went away while it started
            await asyncio.to_thread(replica.start)


@pytest.mark.parametrize("seed", range(_SEEDS))
async def test_every_client_gets_the_log_across_restarts(tmp_path: Path, seed: int) -> None:
    """Once and in order; at two replicas behind a connection to NATS that loses a third."""
    dice = random.Random(seed)
    settings = {
        "heartbeat": "300ms",
        "retry": "20ms",
        "ring_events": dice.choice(["16", "4096"]),
        "direct_writes": dice.choice(["true", "true", "false"]),
        "nats_connect_timeout": "60s",
    }
    with NatsServer(tmp_path / "nats") as server:
        async with Proxy(server.url) as proxy:
            proxy.loses = lambda piece: (
                piece.startswith(b"HMSG tr.live.")
                and piece.count(b"HMSG ") == 1
                and piece.endswith(b"]\r\n")
                and dice.random() < 0.33
            )
            starting = asyncio.to_thread(_start, proxy.url, tmp_path, settings)
            replicas, stack = await starting
            try:
                log = HandWrittenLog(await nats.connect(server.url))
                await log.begin()
                ports = [replica.port for replica in replicas]
                is_over = asyncio.Event()
                killing = asyncio.create_task(_kill(replicas, dice, is_over))
                try:
                    async with asyncio.timeout(90), asyncio.TaskGroup() as group:
                        group.create_task(_write(server, log, dice))
                        readers = [group.create_task(_read(ports, log, dice)) for _ in range(3)]
                finally:
                    # Not cancelled: a replica that is just being started would be left behind.
                    is_over.set()
                    await killing
                for reader in readers:
                    assert places(reader.result()) == log.written
                await log.client.close()
            finally:
                await asyncio.to_thread(stack.close)


def _start(
    nats_url: str, folder: Path, settings: dict[str, str]
) -> tuple[list[ApiProcess], contextlib.ExitStack]:
    stack = contextlib.ExitStack()
    return stack.enter_context(api_replicas(2, nats_url, folder, **settings)), stack
