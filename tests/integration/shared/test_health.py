"""A server that does not answer any more is noticed, although its connection stays open."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from harness.nats.cluster import NatsCluster
from harness.nats.server import NatsServer
from harness.nats.small_disk import SmallDisk
from harness.nats.tcp_proxy import Proxy
from tailrace_shared.errors import UnavailableError
from tailrace_shared.nats.fenced_append import append
from tailrace_shared.nats.health import Health, StoreProbe
from tailrace_shared.nats.jetstream import JetStream, connect
from tailrace_shared.nats.provision import ensure
from tailrace_shared.nats.topology import EVENTS, LEASES, WORKFLOWS, topology
from tailrace_shared.settings import CommonSettings
from tailrace_shared.subjects import Subjects

NOTICED_S = 10.0


@contextlib.asynccontextmanager
async def watched(settings: CommonSettings) -> AsyncIterator[tuple[Health, JetStream]]:
    """Connect, create the streams, and watch the health of NATS."""
    client = await connect(settings, "test")
    jetstream = JetStream(client)
    await ensure(jetstream, topology(settings))
    health = Health.over(jetstream, settings)
    watching = asyncio.create_task(health.run())
    try:
        yield health, jetstream
    finally:
        watching.cancel()
        await client.close()


async def until(condition: Callable[[], object], seconds: float = 60.0) -> float:
    """Wait until a condition is true; return how long that took."""
    began = time.monotonic()
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - nothing reports it
            await asyncio.sleep(0.02)
    return time.monotonic() - began


async def repeated(call: Callable[[], Awaitable[object]]) -> None:
    """Call until NATS answers."""
    while True:
        with contextlib.suppress(UnavailableError):
            await call()
            return
        await asyncio.sleep(0.1)


async def test_a_frozen_server_is_noticed(nats_server: NatsServer) -> None:
    """SIGSTOP leaves the connection open. After SIGCONT all is well again."""
    async with watched(CommonSettings(nats_url=nats_server.url)) as (health, jetstream):
        assert not [*health.failures()]
        nats_server.freeze()
        try:
            assert await until(lambda: [*health.failures()]) < NOTICED_S
            with pytest.raises(UnavailableError):
                await jetstream.api("INFO")
        finally:
            nats_server.thaw()
        await until(lambda: not [*health.failures()])
        await jetstream.api("INFO")


async def test_a_half_open_connection_is_noticed_and_replaced(nats_server: NatsServer) -> None:
    """Although it has more to write than the network takes, which nats-py would wait for."""
    async with (
        Proxy(nats_server.url) as proxy,
        watched(CommonSettings(nats_url=proxy.url)) as (health, jetstream),
    ):
        proxy.fall_silent()
        block = bytes(512 * 1024)
        publishes = [jetstream.client.publish("x", block) for _ in range(32)]
        writing = asyncio.gather(*publishes, return_exceptions=True)
        assert await until(lambda: [*health.failures()]) < NOTICED_S
        proxy.speak()
        await until(lambda: not [*health.failures()])
        await jetstream.api("INFO")
        writing.cancel()


async def test_a_request_fails_with_its_connection(nats_server: NatsServer) -> None:
    """It need not wait for its timeout: its answer would come over the connection that broke."""
    async with watched(CommonSettings(nats_url=nats_server.url)) as (_, jetstream):
        nats_server.freeze()
        request = asyncio.create_task(jetstream.api("INFO"))
        await asyncio.sleep(0)
        nats_server.kill()
        began = time.monotonic()
        with pytest.raises(UnavailableError, match="Reconnecting"):
            await request
        assert time.monotonic() - began < 4
        nats_server.start()


async def test_a_client_leaves_a_frozen_node(tmp_path: Path) -> None:
    """Commits go on over another node, and none waits longer than that takes."""
    with NatsCluster(tmp_path) as cluster:
        settings = CommonSettings(nats_url=cluster.url, nats_replicas=cluster.replicas)
        async with watched(settings) as (health, jetstream):
            subjects = Subjects()
            await repeated(lambda: jetstream.publish(f"$KV.{subjects.stream(LEASES)}.x", b""))
            connected = jetstream.client.connected_url
            assert connected is not None
            frozen = cluster.number_of(connected.geturl())
            cluster.freeze(frozen)
            try:
                began = time.monotonic()
                stream, subject = subjects.stream(EVENTS), subjects.log("t", "x")
                await append(jetstream, stream, subject, b"[]", expected=0)
                assert time.monotonic() - began < 2 * NOTICED_S
                assert jetstream.client.connected_url != connected
                await until(lambda: not [*health.failures()])
            finally:
                cluster.thaw(frozen)


class WithoutLeader(JetStream):
    """JetStream in which one stream has no leader."""

    stream = ""

    async def api(self, action: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Send a request; one for the stream is not answered."""
        if self.stream and action.endswith(f".{self.stream}"):
            raise UnavailableError("NATS did not answer in time")
        return await super().api(action, body)


async def test_a_stream_without_a_leader_is_noticed_by_its_readers(nats_server: NatsServer) -> None:
    """Every start reads the workflow, and fails although other streams store."""
    async with watched(CommonSettings(nats_url=nats_server.url)) as (_, connected):
        jetstream = WithoutLeader(connected.client)
        probe = StoreProbe(jetstream, Subjects().stream(LEASES), topology(CommonSettings()))
        stream = jetstream.stream = f"KV_{Subjects().stream(WORKFLOWS)}"
        assert await probe.probe() == ""
        with pytest.raises(UnavailableError):
            await jetstream.get_newest(stream, {"last_by_subj": "$KV.workflows.t.flow"})
        failure = "NATS cannot read: the leader of stream KV_workflows does not answer"
        assert [await probe.probe(), await probe.probe()] == [failure, failure]
        jetstream.stream = ""
        assert await probe.probe() == ""


async def test_a_full_disk_is_noticed_and_so_is_its_end(tmp_path: Path) -> None:
    """The reason names it. A stream that failed once stays broken until the server restarts."""
    with SmallDisk(tmp_path / "disk", 64) as disk, NatsServer(disk.folder / "nats") as server:
        async with watched(CommonSettings(nats_url=server.url)) as (health, jetstream):
            subject = Subjects().log("t", "x")
            await jetstream.publish(subject, b"[]")
            disk.fill()
            with contextlib.suppress(UnavailableError):
                for _ in range(100):
                    await jetstream.publish(subject, bytes(8192))
            await until(lambda: [*health.failures()])
            (failure,) = health.failures()
            assert failure.startswith("NATS cannot store: ")
            assert failure.endswith("no space left on device")
            disk.free()
            with pytest.raises(UnavailableError):
                await jetstream.publish(subject, b"[]")
            assert [*health.failures()]
            server.stop()
            server.start()
            await until(lambda: not [*health.failures()])
            await jetstream.publish(subject, b"[]")
