"""Several processes on one port, run by a supervisor."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from nats.aio.client import Client

from harness.generators import hand_written_log as written
from harness.generators.hand_written_log import HandWrittenLog
from harness.nats.server import NatsServer
from harness.processes.api_process import ApiProcess
from harness.sse.client import follow, places

pytestmark = pytest.mark.one_node("the processes and their port only")


@pytest.fixture
def pair(idle_nats: NatsServer, tmp_path: Path) -> Iterator[ApiProcess]:
    """Two processes on one port."""
    with ApiProcess(
        idle_nats.url, tmp_path, processes="2", retry="20ms", drain_timeout="10s"
    ) as process:
        yield process
        process.stop()


def _children(process: ApiProcess) -> list[int]:
    path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(pid) for pid in path.read_text().split()]


async def _listening(process: ApiProcess, times: int) -> None:
    async with asyncio.timeout(60):
        while process.log_text.count('"listening"') < times:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_processes_share_the_streams_and_stop_together(
    pair: ApiProcess, nats_client: Client
) -> None:
    """Connections are spread, and SIGTERM drains all processes."""
    await _listening(pair, 2)
    log = HandWrittenLog(nats_client)
    await log.begin()
    await log.commit(written.step_started("n"))
    streams = [follow(pair.port, log.execution) for _ in range(40)]
    for stream in streams:
        await stream.__aenter__()
        await stream.take(4)
    counts = [_connections(pid) for pid in _children(pair)]
    assert len(counts) == 2
    assert min(counts) > 5
    stopping = asyncio.create_task(asyncio.to_thread(pair.stop))
    for stream in streams:
        assert await stream.all() == []
        assert stream.is_complete
    assert await stopping == 0


def _connections(pid: int) -> int:
    files = Path(f"/proc/{pid}/fd").iterdir()
    return sum(str(file.readlink()).startswith("socket:") for file in files)


async def test_a_process_that_dies_is_replaced(pair: ApiProcess, nats_client: Client) -> None:
    """Its clients resume at the other process."""
    await _listening(pair, 2)
    log = HandWrittenLog(nats_client)
    await log.begin()
    await log.commit(written.step_started("n"))
    first, _ = _children(pair)
    os.kill(first, signal.SIGKILL)
    # Until the process is gone, the kernel may still assign connections to it.
    await asyncio.to_thread(_gone, [first])
    await log.complete()
    async with follow(pair.port, log.execution) as stream:
        assert places(await stream.all()) == log.written
    await _listening(pair, 3)
    assert len(_children(pair)) == 2


async def test_processes_do_not_outlive_their_supervisor(pair: ApiProcess) -> None:
    """The port is free for the next start even if the supervisor is killed."""
    await _listening(pair, 2)
    children = _children(pair)
    assert len(children) == 2
    pair.kill()
    async with asyncio.timeout(60):
        await asyncio.to_thread(_gone, children)


def _gone(pids: list[int]) -> None:
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        time.sleep(0.02)


def test_a_port_in_use_prevents_the_start(idle_nats: NatsServer, tmp_path: Path) -> None:
    """Several processes report it as a single process does."""
    process = ApiProcess(idle_nats.url, tmp_path, processes="2")
    with (
        socket.create_server(("127.0.0.1", process.port)),
        pytest.raises(RuntimeError, match="cannot listen"),
    ):
        process.start()


def test_unreachable_nats_prevents_the_start(tmp_path: Path) -> None:
    """All processes exit, and the exit code shows why."""
    process = ApiProcess(
        "nats://127.0.0.1:1", tmp_path, processes="2", nats_connect_timeout="200ms"
    )
    with pytest.raises(RuntimeError, match="cannot reach NATS"):
        process.start()
    assert process._process is not None
    assert process._process.wait(60) == 2
