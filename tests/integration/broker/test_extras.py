"""Encoder, traces, metrics, jobs of other services, and Dramatiq's command."""

import datetime as dt
import signal
import sys
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dramatiq
import pytest
from dramatiq import Encoder, JSONEncoder, Worker
from dramatiq.errors import DecodeError
from dramatiq.middleware import AsyncIO
from prometheus_client import CollectorRegistry

from harness.processes.worker_fleet import WorkerFleet
from tailrace_shared.nats.jobs import ADVANCE_ACTOR, EXECUTIONS_QUEUE, advance_job
from tailrace_worker.broker import MsgspecEncoder, NatsBroker
from tailrace_worker.broker.middleware.metrics import BrokerCollector
from tailrace_worker.broker.middleware.trace_context import (
    Trace,
    TraceContext,
    current_trace,
    trace,
)

Work = Callable[..., Worker]
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize("other", [MsgspecEncoder(), JSONEncoder()])
def test_the_encoder_reads_and_writes_what_dramatiqs_own_does(other: Encoder) -> None:
    """Each encoder reads the output of the other."""
    data = dramatiq.Message("q", "a", (1, "é", None, [1.5]), {"k": {"n": True}}, {"o": 1}).asdict()
    fields = MsgspecEncoder().decode(other.encode(data))
    assert other.decode(MsgspecEncoder().encode(data)) == fields
    assert dramatiq.Message(**{**fields, "args": tuple(fields["args"])}).asdict() == {
        **data,
        "args": (1, "é", None, [1.5]),
    }


def test_the_encoder_accepts_more_than_json() -> None:
    """Dates and UUIDs in arguments become JSON."""
    encoded = MsgspecEncoder().encode({"d": dt.date(2026, 1, 2), "u": uuid.UUID(int=1)})
    assert MsgspecEncoder().decode(encoded) == {"d": "2026-01-02", "u": str(uuid.UUID(int=1))}


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"{'a': 1}"])
def test_invalid_json_is_a_decode_error(data: bytes) -> None:
    """The encoder raises Dramatiq's ``DecodeError``, which the broker handles."""
    with pytest.raises(DecodeError):
        MsgspecEncoder().decode(data)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_actors_belong_to_the_trace_of_their_enqueuer(
    broker: NatsBroker, work: Work, asynchronous: bool
) -> None:
    """An actor and the messages that it enqueues continue the trace; it ends with the actor."""
    broker.add_middleware(TraceContext())
    broker.add_middleware(AsyncIO())
    seen: list[Trace | None] = []
    done = threading.Event()

    def note(again: bool) -> None:
        seen.append(current_trace())
        if again:
            traced.send(False)
        else:
            done.set()

    async def note_later(again: bool) -> None:
        note(again)

    traced: dramatiq.Actor[..., Any]
    traced = dramatiq.actor(actor_name="traced")(note_later if asynchronous else note)
    with trace(Trace(PARENT, "vendor=1")):
        traced.send(True)
    work()
    assert done.wait(60)
    assert seen == [Trace(PARENT, "vendor=1")] * 2
    assert current_trace() is None


def test_the_trace_is_also_in_the_headers(broker: NatsBroker) -> None:
    """Other consumers can read the trace, and other producers can set it."""
    broker.declare_queue("default")
    consumer = broker.consume("default", prefetch=2, timeout=60_000)
    broker.enqueue(dramatiq.Message("default", "a", (), {}, {"traceparent": PARENT}))
    first = next(consumer)
    assert first is not None
    assert first.delivery.headers["traceparent"] == PARENT
    connection = broker.connection
    subject = connection.subjects.job("default")
    body = dramatiq.Message("default", "a", (), {}, {}).encode()
    connection.call(lambda: connection.jetstream.publish(subject, body, {"traceparent": PARENT}))
    second = next(consumer)
    assert second is not None
    assert second.options["traceparent"] == PARENT
    consumer.close()


def test_metrics_count_every_queue(broker: NatsBroker) -> None:
    """Prometheus sees counters, held messages and the backlog."""
    registry = CollectorRegistry()
    registry.register(BrokerCollector(broker))
    broker.declare_queue("q")
    for delay in (None, None, None, 60_000):
        broker.enqueue(dramatiq.Message("q", "a", (), {}, {}), delay=delay)
    consumer = broker.consume("q", prefetch=2, timeout=60_000)
    first, second = next(consumer), next(consumer)
    assert first is not None
    assert second is not None
    consumer.nack(first)
    consumer.requeue([second])
    third = next(consumer)
    assert third is not None

    def value(name: str) -> float | None:
        return registry.get_sample_value(f"tailrace_broker_{name}", {"queue": "q"})

    assert value("enqueued_total") == 4
    assert value("dead_total") == 1
    delivered = value("delivered_total")
    assert delivered is not None
    assert delivered >= 3
    assert value("redelivered_total") in {0, 1}
    assert value("in_flight") in {1, 2}
    while value("queued") == 3:
        pass  # the dead message is acknowledged asynchronously
    assert value("queued") == 2
    assert value("delayed") == 1
    consumer.close()


def test_jobs_of_services_without_dramatiq_are_consumed(broker: NatsBroker, work: Work) -> None:
    """A job that the API stores runs as an actor's message."""
    ran: list[tuple[str, str]] = []
    done = threading.Event()

    @dramatiq.actor(actor_name=ADVANCE_ACTOR, queue_name=EXECUTIONS_QUEUE)
    def advance(tenant: str, execution: str) -> None:
        ran.append((tenant, execution))
        done.set()

    connection = broker.connection
    subject = connection.subjects.job(EXECUTIONS_QUEUE)
    connection.call(lambda: connection.jetstream.publish(subject, advance_job("t", "e")))
    work()
    assert done.wait(60)
    assert ran == [("t", "e")]


def dramatiq_command(*options: str) -> tuple[str, ...]:
    """Return Dramatiq's command line over the program's actors."""
    # Not ``python -m dramatiq``: on a reload that starts the first ``python`` on the PATH.
    return (str(Path(sys.executable).with_name("dramatiq")), "program", *options)


def test_dramatiqs_command_runs_workers_on_it(fleet: WorkerFleet) -> None:
    """Its processes share the messages; SIGTERM ends all of them and releases held messages."""
    fleet.ack_wait = 600
    fleet.start(*dramatiq_command("-p", "2", "-t", "2"), ready=b"ready for action")
    fleet.broker.enqueue_many(fleet.message("effect", str(n)) for n in range(200))
    assert len(set(fleet.await_traces(200, timeout=60))) == 200
    for name in "abcdefgh":
        fleet.send("slow", name, 0.4)
    fleet.await_traces(4, "begin", timeout=60)
    process = fleet.processes[0]
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    fleet.start(threads=4)
    assert set("abcdefgh") <= set(fleet.await_traces(208, timeout=60))
    assert len(fleet.traces("begin")) == 8


def test_dramatiqs_command_reloads_on_change(fleet: WorkerFleet, tmp_path: Path) -> None:
    """With ``--watch`` a changed file restarts the workers, which continue to consume."""
    watched = tmp_path / "watched"
    watched.mkdir()
    # Polling, because not every container forwards file events. An explicit pattern, because
    # Dramatiq's default pattern matches no path in watchdog 7.
    fleet.ack_wait = 600
    options = ("--watch", str(watched), "--watch-use-polling", "--watch-include", "**/*.py")
    fleet.start(*dramatiq_command("-p", "1", "-t", "1", *options), ready=b"booting up")
    process = fleet.processes[0]
    fleet.send("slow", "a", 0)
    fleet.await_traces(1, timeout=60)
    assert process.stdout is not None
    (watched / "code.py").write_text("changed = True")
    for line in process.stdout:
        if b"SIGHUP" in line:
            break
    for line in process.stdout:
        if b"ready for action" in line:
            break
    fleet.send("slow", "b", 0)
    fleet.await_traces(2, timeout=60)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    first, second = (trace.split()[1] for trace in fleet.traces("begin"))
    assert first != second
