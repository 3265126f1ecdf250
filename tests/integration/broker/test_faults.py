"""No message is lost when workers or NATS are killed or stopped; few run twice.

The test that kills NATS has one server: of three, the others would go on.
"""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.nats.server import NatsServer
from harness.processes.worker_fleet import WorkerFleet


def test_a_worker_killed_before_the_effect_costs_one_delivery(fleet: WorkerFleet) -> None:
    """Another worker runs the message after the ack wait, and its effect happens once."""
    for _ in range(2):
        fleet.start()
    fleet.send("die_before", "a")
    fleet.await_traces(1, timeout=60)
    fleet.broker.join("default", timeout=60_000)
    assert fleet.traces() == ["a"]


def test_a_worker_killed_between_effect_and_ack_causes_a_second_run(fleet: WorkerFleet) -> None:
    """Delivery is at least once: the effect happens twice, then the message is acknowledged."""
    for _ in range(2):
        fleet.start()
    fleet.send("die_after", "a")
    fleet.await_traces(2, timeout=60)
    fleet.broker.join("default", timeout=60_000)
    assert fleet.traces() == ["a", "a"]


def test_a_message_that_kills_its_workers_becomes_a_dead_letter(fleet: WorkerFleet) -> None:
    """An actor that kills its process does so at most ``max_deliveries`` times."""
    fleet.max_deliveries = 2
    for _ in range(3):
        fleet.start()
    fleet.send("die_always", "a")
    fleet.broker.join("default", timeout=90_000)
    assert fleet.traces("begin") == ["a", "a"]
    [letter] = fleet.broker.dead_letters.list()
    assert letter.reason == "delivered too often"
    assert letter.deliveries == 3


def test_a_worker_stopped_beyond_the_ack_wait_recovers(fleet: WorkerFleet) -> None:
    """Another worker runs its message; when resumed, it continues and takes new messages."""
    first = fleet.start(threads=1)
    fleet.send("stopped", "a", first)
    while "(stopped)" not in Path(f"/proc/{first}/status").read_text():
        pass
    fleet.start(threads=1)
    fleet.await_traces(1, timeout=60)
    fleet.broker.join("default", timeout=60_000)
    os.kill(first, signal.SIGCONT)
    fleet.await_traces(2, timeout=60)
    os.kill(fleet.processes[1].pid, signal.SIGKILL)
    fleet.send("effect", "b")
    assert fleet.await_traces(3, timeout=60) == ["a", "a", "b"]
    fleet.broker.join("default", timeout=60_000)


def test_a_long_actor_is_delivered_once(fleet: WorkerFleet) -> None:
    """Heartbeats hold a message for three ack waits although other workers are idle."""
    for _ in range(2):
        fleet.start()
    fleet.send("slow", "a", 3 * fleet.ack_wait)
    fleet.await_traces(1, timeout=60)
    fleet.broker.join("default", timeout=60_000)
    assert len(fleet.traces("begin")) == 1
    assert fleet.traces() == ["a"]


@pytest.mark.timeout(300)  # twenty thousand messages, and an ack wait for redeliveries
def test_nats_killed_under_load_loses_nothing(
    fleet: WorkerFleet,
    nats_server: NatsServer,
    record_property: Callable[[str, object], None],
) -> None:
    """Each of 20,000 messages runs although NATS is killed and restarted meanwhile."""
    total = 20_000
    fleet.ack_wait = 10.0
    fleet.broker.enqueue_many(fleet.message("effect", str(n)) for n in range(total))
    for _ in range(2):
        fleet.start(threads=8)
    fleet.await_traces(3_000, timeout=60)
    nats_server.kill()
    before = set(fleet.traces())
    nats_server.start()
    fleet.broker.join("default", timeout=150_000)
    counted = fleet.counted()
    again = {name for name, count in counted.items() if count > 1}
    record_property("run twice", len(again))
    record_property("run twice, and first before the kill", len(again & before))
    assert len(counted) == total
    # Messages whose delivery or ack the killed server had not written to disk, and that were then
    # delivered to the other worker.
    assert len(again) < total / 20


def test_sigterm_finishes_running_messages_and_releases_the_rest(fleet: WorkerFleet) -> None:
    """A stopping worker ends its message; another runs the prefetched ones at once."""
    fleet.ack_wait = 600.0
    first = fleet.start(threads=1)
    for name in ("a", "b", "c"):
        fleet.send("slow", name, 0.5)
    fleet.await_traces(1, "begin")
    os.kill(first, signal.SIGTERM)
    assert fleet.processes[0].wait(60) == 0
    fleet.start(threads=2)
    assert sorted(fleet.await_traces(3, timeout=60)) == ["a", "b", "c"]
    assert len(fleet.traces("begin")) == 3
