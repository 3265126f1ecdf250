"""The broker survives lost connections, or raises Dramatiq's errors.

Tests that stop NATS have one server: of three, the others would go on.
"""

import asyncio
import gc
import os
import threading
import time
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import dramatiq
import pytest
from dramatiq import Worker
from dramatiq.errors import BrokerError, ConnectionClosed, ConnectionFailed

from harness.nats.deployment import NatsDeployment
from harness.nats.server import NatsServer
from harness.processes.ports import free_port
from tailrace_shared.nats import provision
from tailrace_shared.nats.jetstream import JetStream
from tailrace_shared.nats.topology import StreamSpec
from tailrace_worker.broker import NatsBroker


def message(size: int = 1) -> "dramatiq.Message[None]":
    """Return a message."""
    return dramatiq.Message("default", "none", ("x" * size,), {}, {})


def test_an_unreachable_nats_fails_the_connection() -> None:
    """Without a server an enqueue raises ``ConnectionFailed`` after the timeout."""
    broker = NatsBroker(f"nats://127.0.0.1:{free_port()}", connect_timeout=0.5)
    with pytest.raises(ConnectionFailed, match="cannot reach NATS"):
        broker.enqueue(message())
    broker.close()


def test_constructing_a_broker_does_not_connect() -> None:
    """A module may construct its broker and declare actors while NATS is away."""
    broker = NatsBroker(f"nats://127.0.0.1:{free_port()}")
    broker.declare_queue("q")
    broker.close()


def test_enqueueing_survives_a_restart(nats_server: NatsServer) -> None:
    """A message enqueued while NATS is down is stored once when NATS is back."""
    broker = NatsBroker(nats_server.url, enqueue_timeout=60)
    broker.enqueue(message())
    nats_server.kill()
    sent: list[dramatiq.Message[None]] = []
    thread = threading.Thread(target=lambda: sent.append(broker.enqueue(message())))
    thread.start()
    thread.join(0.3)
    assert thread.is_alive()
    nats_server.start()
    thread.join(60)
    broker.declare_queue("default")
    assert len(sent) == 1
    assert broker.backlog()["default"].queued == 2
    broker.close()


def test_a_late_pong_does_not_end_the_reader(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that was stopped answers a ping after the flush has timed out."""
    monkeypatch.setattr("tailrace_worker.broker.link.link._FLUSH_TIMEOUT_S", 0.1)
    broker = NatsBroker(nats_server.url)
    connection = broker.connection
    nats_server.freeze()
    try:
        assert not connection.call(connection.link.flush)
    finally:
        nats_server.thaw()
    monkeypatch.undo()
    assert connection.call(connection.link.flush)
    assert connection.link.client.stats["reconnects"] == 0
    broker.close()


def test_enqueueing_times_out_while_nats_is_down(nats_server: NatsServer) -> None:
    """An enqueue raises ``ConnectionClosed`` after its timeout; the connection recovers later."""
    broker = NatsBroker(nats_server.url)
    broker.enqueue(message())
    broker._writer.timeout_s = 0.5
    nats_server.kill()
    with pytest.raises(ConnectionClosed):
        broker.enqueue(message())
    with pytest.raises(ConnectionClosed):
        broker.enqueue_many([message(), message()])
    nats_server.start()
    deadline = time.monotonic() + 60
    while True:
        try:
            broker.enqueue(message())
            break
        except ConnectionClosed:
            assert time.monotonic() < deadline
    broker.close()


def test_nats_may_restart_while_the_connection_is_opened(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reconnect callback runs before the connection has all its parts."""
    failures: list[dict[str, object]] = []

    async def ensure_after_restart(jetstream: JetStream, specs: Sequence[StreamSpec]) -> None:
        monkeypatch.undo()
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: failures.append(context))
        await asyncio.to_thread(nats_server.kill)
        await asyncio.to_thread(nats_server.start)
        while jetstream.client.stats["reconnects"] == 0:  # noqa: ASYNC110 - nats-py has no event
            await asyncio.sleep(0.01)
        await provision.ensure(jetstream, specs)

    monkeypatch.setattr("tailrace_worker.broker.link.connection.ensure", ensure_after_restart)
    broker = NatsBroker(nats_server.url, connect_timeout=60, enqueue_timeout=60)
    broker.enqueue(message())
    while broker.connection.link.disconnected_at is not None:
        time.sleep(0.01)
    broker.close()
    gc.collect()
    assert failures == []


def test_a_closed_broker_raises(broker: NatsBroker) -> None:
    """After ``close`` every use raises ``ConnectionClosed``; closing again has no effect."""
    broker.enqueue(message())
    broker.close()
    broker.close()
    with pytest.raises(ConnectionClosed):
        broker.enqueue(message())


def test_a_message_larger_than_nats_accepts_is_refused(broker: NatsBroker) -> None:
    """The error names both sizes, and the connection stays usable."""
    with pytest.raises(BrokerError, match="bytes with its headers; this NATS accepts"):
        broker.enqueue(message(1024 * 1024 - 200))
    broker.enqueue(message(1024 * 1024 - 3000))


def test_workers_recover_after_nats_was_restarted(nats_server: NatsServer) -> None:
    """A message that runs during the restart is acknowledged after it; new messages run."""
    # Too long for a redelivery, so the queue becomes empty by acknowledgements only.
    broker = NatsBroker(nats_server.url, ack_wait=600, enqueue_timeout=60)
    dramatiq.set_broker(broker)
    begun, gate = threading.Event(), threading.Event()
    ran: list[str] = []

    @dramatiq.actor
    def work(name: str) -> None:
        begun.set()
        assert gate.wait(100)
        ran.append(name)

    worker = Worker(broker, worker_timeout=100, worker_threads=2)
    worker.start()
    work.send("through it")
    assert begun.wait(60)
    nats_server.kill()
    while broker.connection.link.disconnected_at is None:
        time.sleep(0.01)
    nats_server.start()
    gate.set()
    work.send("after it")
    broker.join("default", timeout=60_000)
    worker.stop()
    broker.close()
    assert sorted(ran) == ["after it", "through it"]


def test_a_nats_that_lost_its_disk_gets_its_streams_back(nats_server: NatsServer) -> None:
    """Running workers consume what is enqueued after the loss."""
    broker = NatsBroker(nats_server.url, enqueue_timeout=60)
    broker.declare_queue("default")
    consumer = broker.consume("default", timeout=60_000)
    nats_server.kill()
    for path in sorted((nats_server.folder / "store").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    nats_server.start()
    sent = broker.enqueue(message())
    received = next(consumer)
    assert received is not None
    assert received.message_id == sent.message_id
    consumer.close()
    broker.close()


def test_a_forked_child_has_a_connection_of_its_own(broker: NatsBroker) -> None:
    """Dramatiq forks: a child must not use the socket of its parent."""
    broker.declare_queue("default")
    broker.enqueue(message())
    child = os.fork()
    if child == 0:
        status = 1
        try:
            broker.enqueue(message())
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    broker.enqueue(message())
    assert broker.backlog()["default"].queued == 3


def test_a_message_whose_retry_could_not_be_enqueued_is_not_lost(nats_server: NatsServer) -> None:
    """If NATS is down for longer than an enqueue waits, the message itself is redelivered."""
    broker = NatsBroker(nats_server.url, ack_wait=2)
    dramatiq.set_broker(broker)
    given_up, done = threading.Event(), threading.Event()
    runs: list[int] = []

    class Afterwards(dramatiq.Middleware):
        """Sets an event when all other middleware has run its hook."""

        def after_process_message(self, *_: object, **__: object) -> None:
            given_up.set()

    broker.add_middleware(Afterwards(), before=type(broker.middleware[0]))

    @dramatiq.actor(min_backoff=1, max_backoff=1)
    def fails_once() -> None:
        runs.append(1)
        if len(runs) == 1:
            broker._writer.timeout_s = 0.3
            nats_server.kill()
            raise RuntimeError("NATS is down when this is retried")
        done.set()

    fails_once.send()
    worker = Worker(broker, worker_timeout=50, worker_threads=1)
    worker.start()
    assert given_up.wait(60)
    broker._writer.timeout_s = 10.0
    nats_server.start()
    assert done.wait(60)
    worker.stop()
    broker.close()


def test_a_broker_takes_a_list_of_servers(shared_nats: NatsDeployment) -> None:
    """One of them need not answer."""
    broker = NatsBroker(
        [f"nats://127.0.0.1:{free_port()}", *shared_nats.url.split(",")],
        prefix=f"t{uuid4().hex[:8]}",
        replicas=shared_nats.replicas,
        connect_timeout=60,
    )
    broker.enqueue(message())
    broker.close()


@pytest.mark.parametrize(
    ("url", "error"), [([], ValueError), ("", ValueError), ([1], TypeError), ([None], TypeError)]
)
def test_a_broker_without_servers_is_refused(url: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="url must"):
        NatsBroker(url)
