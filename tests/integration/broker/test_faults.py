"""Nothing is lost when workers are killed or stopped, or NATS is; what runs twice is known."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.processes.worker_fleet import WorkerFleet


def test_a_worker_killed_before_the_effect_costs_one_delivery(fleet: WorkerFleet) -> None:
    """The message goes to another worker after the ack wait, and its effect happens once."""
    for _ in range(2):
        fleet.start()
    fleet.send("die_before", "a")
    fleet.await_traces(1, timeout=60)
    fleet.broker.join("default", timeout=60_000)
    assert fleet.traces() == ["a"]


def test_a_worker_killed_between_effect_and_ack_causes_a_second_run(fleet: WorkerFleet) -> None:
    """At least once means that this effect happens twice; its message is then gone."""
    for _ in range(2):
        fleet.start()
    fleet.send("die_after", "a")
    fleet.await_traces(2, timeout=60)
    fleet.broker.join("default", timeout=60_000)
    assert fleet.traces() == ["a", "a"]


def test_a_message_that_kills_its_workers_becomes_a_dead_letter(fleet: WorkerFleet) -> None:
    """An actor that takes its process down cannot do so for ever."""
    fleet.max_deliveries = 2
    for _ in range(3):
        fleet.start()
    fleet.send("die_always", "a")
    fleet.broker.join("default", timeout=90_000)
    assert fleet.traces("begin") == ["a", "a"]
    [letter] = fleet.broker.dead_letters.list()
    assert letter.reason == "delivered too often"
    assert letter.deliveries == 3


def test_a_worker_stopped_beyond_the_ack_wait_harms_nobody(fleet: WorkerFleet) -> None:
    """Its message is run by another; when it wakes up it goes on, and takes new messages."""
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
    """Heartbeats hold a message three times as long as the ack wait, before idle workers."""
    for _ in range(2):
        fleet.start()
    fleet.send("slow", "a", 3 * fleet.ack_wait)
    fleet.await_traces(1, timeout=60)
    fleet.broker.join("default", timeout=60_000)
    assert len(fleet.traces("begin")) == 1
    assert fleet.traces() == ["a"]


@pytest.mark.timeout(300)  # twenty thousand messages, and an ack wait for those that come again
def test_nats_killed_under_load_loses_nothing(
    fleet: WorkerFleet, record_property: Callable[[str, object], None]
) -> None:
    """Of 20,000 messages every one is run, though NATS is killed and restarted meanwhile."""
    total = 20_000
    fleet.ack_wait = 10.0
    fleet.broker.enqueue_many(fleet.message("effect", str(n)) for n in range(total))
    for _ in range(2):
        fleet.start(threads=8)
    fleet.await_traces(3_000, timeout=60)
    fleet.server.kill()
    before = set(fleet.traces())
    fleet.server.start()
    fleet.broker.join("default", timeout=150_000)
    counted = fleet.counted()
    again = {name for name, count in counted.items() if count > 1}
    record_property("run twice", len(again))
    record_property("run twice, and first before the kill", len(again & before))
    assert len(counted) == total
    # Those whose delivery or ack the killed server had not written down, and that went to the other
    # worker afterwards.
    assert len(again) < total / 20


def test_sigterm_finishes_what_runs_and_hands_back_the_rest(fleet: WorkerFleet) -> None:
    """A stopping worker ends its message; what it had prefetched runs elsewhere at once."""
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
