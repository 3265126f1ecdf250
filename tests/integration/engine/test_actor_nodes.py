"""Actor nodes on real workers: distribution, crashes, limits and shutdown of attempts."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from nats.aio.msg import Msg

from harness.generators.workflows import definition
from harness.nats.listening import until_leader_sends
from harness.nats.server import NatsServer
from harness.processes.installation import TENANT, Installation
from harness.processes.polling import until
from harness.processes.service import Service
from tailrace_shared.execution.commits import decode_commit
from tailrace_shared.execution.events import (
    TERMINAL,
    Event,
    StepEvent,
    StepLogged,
    StepProgressed,
    StepRetrying,
    StepStarted,
)
from tailrace_shared.execution.state import fold
from tailrace_shared.execution.timestamps import parse_timestamp
from tailrace_shared.nats.jetstream import subject_counts
from tailrace_shared.nats.topology import EVENTS, JOBS
from tailrace_shared.stores.node_type_store import NodeTypeStore
from tailrace_shared.workflow.definition import Definition
from tailrace_shared.workflow.node_types import NodeType
from tailrace_worker.engine.services.actor_job import ActorJob, message_for

ACTORS = {"nodes": "actor_functions", "ack_wait": "2s"}
NO_TIMERS = {**ACTORS, "ack_wait": "1h", "sweep_interval": "1h"}
"""An execution that continues within an hour was not woken by a timer."""


def one(kind: str, parameters: dict[str, Any] | None = None, **fields: Any) -> Definition:
    """Return a workflow of one step."""
    return definition({"a": {"type": kind, "with": parameters or {}, **fields}})


def effects(folder: Path) -> list[tuple[str, str, int, int, str]]:
    """Return the notes of attempts: kind, step, attempt, process and idempotency key."""
    file = folder / "effects"
    lines = [line.split() for line in file.read_text().splitlines()] if file.exists() else []
    return [(what, step, int(n), int(pid), key) for what, step, n, pid, key in lines]


async def noted(folder: Path, what: str, count: int = 1) -> list[tuple[str, str, int, int, str]]:
    """Poll until a kind was noted so often; a file signals no writes."""
    async with asyncio.timeout(60):
        while True:
            found = [effect for effect in effects(folder) if effect[0] == what]
            if len(found) >= count:
                return found
            await asyncio.sleep(0.02)


def of_step(kind: type[StepEvent], attempt: int | None = None) -> Callable[[list[Event]], bool]:
    """Return a condition on a log: there is such an event of a step."""
    return lambda events: any(
        isinstance(event, kind) and attempt in {None, getattr(event.data, "attempt", None)}
        for event in events
    )


def story(events: list[Event], step: str = "a") -> list[str]:
    """Return what happened to a step, without its reports."""
    recorded = [
        event
        for event in events
        if isinstance(event, StepEvent)
        and not isinstance(event, StepLogged | StepProgressed)
        and event.data.node_id == step
    ]
    return [str(type(event).__struct_config__.tag).removeprefix("step:") for event in recorded]


def at(pid: int, workers: list[Service]) -> Service:
    """Return the worker with a process id."""
    (found,) = [worker for worker in workers if worker.pid == pid]
    return found


async def settled(site: Installation, worker: Service) -> None:
    """Wait until a worker that was frozen is itself again: alone, it runs something new."""
    other = await site.start(await site.store(definition({"x": {}})))
    await site.finished(other)
    assert worker.pid


async def test_an_actor_node_is_run_by_its_actor(site: Installation, tmp_path: Path):
    """On the Dramatiq thread that took its message; the driver only says that it waits."""
    worker = site.worker(**ACTORS)
    execution = await site.start(await site.store(one("actor.effect", {"folder": str(tmp_path)})))
    events = await site.finished(execution)
    assert story(events) == ["waiting", "started", "completed"]
    step = fold(events).steps["a"]
    assert step.is_remote
    assert step.output["queue"] == "node.actor.effect"
    assert step.output["pid"] == worker.pid
    assert not step.output["thread"].startswith(("node", "engine"))
    assert [what for what, *_ in effects(tmp_path)] == ["began", "ended"]


async def test_a_coroutine_function_runs_on_the_engines_loop(site: Installation, tmp_path: Path):
    """Its message is held as long as it runs."""
    site.worker(**ACTORS)
    parameters = {"folder": str(tmp_path), "seconds": 1.5}
    execution = await site.start(await site.store(one("actor.async", parameters)))
    events = await site.finished(execution)
    assert story(events) == ["waiting", "started", "completed"]
    assert fold(events).steps["a"].output == {"attempt": 1, "thread": "engine"}


async def test_the_worker_that_drives_need_not_have_the_actors_code(
    site: Installation, tmp_path: Path
):
    """It learns from what the others have published that the type is an actor's."""
    has_code = site.worker(**ACTORS)
    execution = await site.start(await site.store(one("actor.gated", {"folder": str(tmp_path)})))
    await noted(tmp_path, "began")
    assert has_code.stop() == 0
    driver = site.worker(ack_wait="1s")
    await site.until(execution, of_step(StepRetrying))
    await site.enqueue(execution)
    other = await site.start(await site.store(one("actor.effect", {"folder": str(tmp_path)})))
    await site.until(other, lambda events: story(events) == ["waiting"])
    has_code = site.worker(**ACTORS)
    (tmp_path / "gate").touch()
    for each in (execution, other):
        events = await site.finished(each)
        assert fold(events).status == "completed"
    assert {pid for _, _, _, pid, _ in effects(tmp_path)}.isdisjoint({driver.pid})


async def test_a_driver_learns_that_actors_run_a_type_that_it_did_not_know(site: Installation):
    """Also if it has met the type, and searched for a worker, before one published it."""
    site.worker()
    execution = await site.start(await site.store(one("actor.new")))
    await site.until(execution, of_step(StepRetrying, 1))
    types = NodeTypeStore(site.jetstream, site.subjects)
    await types.publish([NodeType("actor.new", actor=True)])
    events = await site.until(execution, lambda events: story(events)[-1] == "waiting")
    assert story(events) == ["started", "retrying", "waiting"]


async def test_an_attempt_ends_although_nats_lost_a_commit_that_it_had_announced(
    site: Installation, tmp_path: Path
):
    """A worker that waited for what is not in the log would hold the attempt for ever."""
    site.worker(**ACTORS)
    execution = await site.start(await site.store(one("actor.gated", {"folder": str(tmp_path)})))
    await noted(tmp_path, "began")
    live = site.subjects.live(TENANT, execution)
    await site.jetstream.client.publish(live, b"[]", headers={"Nats-Sequence": "1000000"})
    await site.jetstream.client.flush()
    (tmp_path / "gate").touch()
    events = await site.finished(execution)
    assert story(events) == ["waiting", "started", "completed"]


@pytest.mark.parametrize("begun", [False, True])
async def test_a_step_whose_message_nats_has_lost_is_run_all_the_same(
    site: Installation, tmp_path: Path, *, begun: bool
):
    """The sweeper has the execution driven again, and its driver checks the step."""
    site.worker(ack_wait="500ms", sweep_interval="1h")
    runner = site.worker(**ACTORS)
    if not begun:
        assert runner.stop() == 0
    execution = await site.start(await site.store(one("actor.gated", {"folder": str(tmp_path)})))
    if begun:
        await noted(tmp_path, "began")
        runner.kill()
    else:
        # The commit comes first: without the message, nothing would be purged.
        await queue_has(site, "node.actor.gated", 1)
    await site.jetstream.api(
        f"STREAM.PURGE.{site.subjects.stream(JOBS)}",
        {"filter": site.subjects.job("node.actor.gated")},
    )
    (tmp_path / "gate").touch()
    site.worker(**ACTORS)
    async with asyncio.timeout(60):
        await until(partial(_has_deadline, site))
        while not fold(await site.events(execution)).is_terminal:
            # As the sweeper does, half a minute after the deadline.
            await site.enqueue(execution)
            await asyncio.sleep(0.2)
    ended = story(await site.events(execution))
    retried = ["retrying", "waiting", "started"] if begun else []
    assert ended == ["waiting", "started", *retried, "completed"]


async def _has_deadline(site: Installation) -> bool:
    """Tell whether some execution must be driven again at some time."""
    return bool([due async for due in site.due.entries()])


async def test_a_failing_attempt_is_tried_again_by_the_nodes_policy(site: Installation):
    """Each attempt waits for an actor anew."""
    site.worker(**ACTORS)
    retry = {"max_attempts": 3, "initial": "10ms"}
    execution = await site.start(await site.store(one("actor.flaky", {"fails": 2}, retry=retry)))
    events = await site.finished(execution)
    ends = ["retrying", "retrying", "completed"]
    assert story(events) == [word for end in ends for word in ("waiting", "started", end)]
    assert fold(events).steps["a"].output == 3


async def test_what_is_no_exception_fails_the_attempt_in_any_kind_of_node(site: Installation):
    """A Rust panic, GeneratorExit or Shutdown: the step is tried again, and no slot is lost."""
    site.worker(**ACTORS)
    retry = {"max_attempts": 4, "initial": "10ms"}
    kinds = ["actor.panic", "panic.sync", "panic.async", "panic.instant"]
    nodes = {f"n{n}": {"type": kind, "retry": retry} for n, kind in enumerate(kinds)}
    items = {"for_each": "[1, 2]", "do": {"type": "panic.sync", "retry": retry}}
    nodes["items"] = {"type": "map", "with": items}
    nodes["fails"] = {"type": "panic.sync", "retry": {**retry, "max_attempts": 2}}
    state = fold(await site.finished(await site.start(await site.store(definition(nodes)))))
    outputs = {name: step.output for name, step in state.steps.items() if name in nodes}
    assert outputs == {**{f"n{n}": 4 for n in range(4)}, "items": [4, 4], "fails": None}
    assert state.steps["n1"].failures == 3
    assert state.steps["fails"].error == "GeneratorExit"


async def test_an_attempt_times_out_and_its_function_is_interrupted(
    site: Installation, tmp_path: Path
):
    """The step fails at once; the thread is free as soon as the function has had its grace."""
    site.worker(**ACTORS, cancel_grace="100ms")
    parameters = {"folder": str(tmp_path)}
    execution = await site.start(
        await site.store(one("actor.stubborn", parameters, timeout="300ms"))
    )
    events = await site.finished(execution)
    assert story(events) == ["waiting", "started", "failed"]
    assert fold(events).steps["a"].error == "timed out after 300ms"
    await noted(tmp_path, "AttemptInterrupted")


@pytest.mark.parametrize(
    ("kind", "needs_folder"), [("actor.limited", True), ("actor.limited_async", False)]
)
async def test_dramatiqs_time_limit_is_an_error_like_others(
    site: Installation, tmp_path: Path, kind: str, needs_folder: bool
):
    """The node's policy decides what follows, not Dramatiq's."""
    site.worker(**ACTORS)
    parameters = {"folder": str(tmp_path)} if needs_folder else {}
    execution = await site.start(await site.store(one(kind, parameters)))
    events = await site.finished(execution)
    assert story(events) == ["waiting", "started", "failed"]
    assert fold(events).steps["a"].error == "the time limit of its actor has passed"
    if needs_folder:
        await noted(tmp_path, "TimeLimitExceeded")


@pytest.mark.parametrize("kind", ["actor.polite", "actor.polite_async"])
async def test_a_cancelled_attempt_observes_it(site: Installation, tmp_path: Path, kind: str):
    """Wherever it runs; it has a grace to end by itself, although the execution has ended."""
    site.worker(**ACTORS)
    execution = await site.start(await site.store(one(kind, {"folder": str(tmp_path)})))
    await noted(tmp_path, "began")
    await site.commander.cancel(TENANT, execution, "enough")
    await site.enqueue(execution)
    events = await site.finished(execution)
    assert fold(events).status == "cancelled"
    await noted(tmp_path, "observed")


async def test_a_cancelled_attempt_that_does_not_listen_is_interrupted(
    site: Installation, tmp_path: Path
):
    """Its thread is wanted for others."""
    site.worker(**ACTORS, cancel_grace="100ms")
    execution = await site.start(await site.store(one("actor.stubborn", {"folder": str(tmp_path)})))
    await noted(tmp_path, "began")
    await site.commander.cancel(TENANT, execution, "enough")
    await site.enqueue(execution)
    assert fold(await site.finished(execution)).status == "cancelled"
    await noted(tmp_path, "AttemptInterrupted")


async def test_reports_are_recorded_at_most_five_times_a_second(site: Installation):
    """The newest progress each time, and all lines."""
    site.worker(**ACTORS)
    execution = await site.start(await site.store(one("actor.chatty", {"seconds": 1.0})))
    events = await site.finished(execution)
    progress = [e for e in events if isinstance(e, StepProgressed)]
    times = [parse_timestamp(e.timestamp) for e in progress]
    # The last word comes with the end, whenever that is.
    assert len(progress) <= 5 * (times[-1] - times[0]) + 2
    # It is the only step there is.
    assert [e.data.progress for e in progress] == [
        pytest.approx(e.data.percent, abs=0.1) for e in progress
    ]
    (line,) = [e for e in events if isinstance(e, StepLogged)]
    assert line.data.fields["reports"] > len(progress)
    assert progress[-1].data.fields["reports"] == line.data.fields["reports"] - 1


async def test_reports_and_a_busy_driver_do_not_keep_each_other(site: Installation):
    """Both write to one log; who loses a fence reads on and tries again."""
    site.worker(**ACTORS)
    chain = {
        f"n{i}": {"type": "simulate", "with": {"duration": "20ms"}}
        | ({"needs": [f"n{i - 1}"]} if i else {})
        for i in range(40)
    }
    actors = {f"a{i}": {"type": "actor.chatty", "with": {"seconds": 1.0}} for i in range(3)}
    execution = await site.start(await site.store(definition({**chain, **actors})))
    events = await site.finished(execution)
    assert fold(events).status == "completed"
    assert not [e for e in events if isinstance(e, StepRetrying)]


async def test_a_large_output_is_stored_outside_the_log(site: Installation):
    """Outputs of actors are stored like those of other steps."""
    site.worker(**ACTORS)
    workflow = definition(
        {
            "a": {"type": "actor.large", "with": {"size": 400_000}},
            "b": {
                "type": "transform",
                "needs": ["a"],
                "with": {"value": "${nodes.a.output.size()}"},
            },
        }
    )
    state = fold(await site.finished(await site.start(await site.store(workflow))))
    assert state.steps["a"].output_ref is not None
    assert state.steps["b"].output == 400_000


async def test_a_killed_workers_attempt_is_lost_and_another_begins(
    site: Installation, tmp_path: Path
):
    """SIGKILL: effects at most once per attempt, and the same idempotency key for each."""
    workers = [site.worker(**ACTORS), site.worker(**ACTORS)]
    execution = await site.start(await site.store(one("actor.gated", {"folder": str(tmp_path)})))
    ((_, _, _, pid, _),) = await noted(tmp_path, "began")
    at(pid, workers).kill()
    await noted(tmp_path, "began", 2)
    (tmp_path / "gate").touch()
    events = await site.finished(execution)
    assert story(events) == ["waiting", "started", "retrying", "waiting", "started", "completed"]
    (again,) = [e for e in events if isinstance(e, StepRetrying)]
    assert again.data.cause == "crash"
    assert fold(events).steps["a"].output == 2
    seen = effects(tmp_path)
    assert [(what, attempt) for what, _, attempt, _, _ in seen] == [
        ("began", 1),
        ("began", 2),
        ("ended", 2),
    ]
    assert {key for *_, key in seen} == {f"{execution}:a"}


async def test_a_lost_attempt_fails_a_step_whose_effects_must_not_be_repeated(
    site: Installation, tmp_path: Path
):
    """on_crash: fail."""
    workers = [site.worker(**ACTORS), site.worker(**ACTORS)]
    workflow = one("actor.gated", {"folder": str(tmp_path)}, on_crash="fail")
    execution = await site.start(await site.store(workflow))
    ((_, _, _, pid, _),) = await noted(tmp_path, "began")
    at(pid, workers).kill()
    events = await site.finished(execution)
    assert story(events) == ["waiting", "started", "failed"]
    assert "on_crash is fail" in (fold(events).steps["a"].error or "")
    assert len(effects(tmp_path)) == 1


async def test_a_step_that_kills_its_workers_fails(site: Installation):
    """The setting limits the number of lost workers."""
    for _ in range(2):
        site.worker(**ACTORS, max_crashes="2")
    site.worker(ack_wait="1s", max_crashes="2")
    execution = await site.start(await site.store(one("actor.kill")))
    await site.until(execution, of_step(StepStarted, 2))
    site.worker(**ACTORS, max_crashes="2")
    events = await site.finished(execution)
    assert story(events)[-1] == "failed"
    assert "lost 2 times" in (fold(events).steps["a"].error or "")


async def test_a_frozen_workers_result_is_dropped(site: Installation, tmp_path: Path):
    """SIGSTOP beyond the ack wait: the attempt is lost, and what the zombie made of it."""
    workers = [site.worker(**ACTORS), site.worker(**ACTORS)]
    execution = await site.start(await site.store(one("actor.gated", {"folder": str(tmp_path)})))
    ((_, _, _, pid, _),) = await noted(tmp_path, "began")
    zombie = at(pid, workers)
    zombie.freeze()
    await noted(tmp_path, "began", 2)
    (tmp_path / "gate").touch()
    events = await site.finished(execution)
    assert fold(events).steps["a"].output == 2
    zombie.thaw()
    for worker in workers:
        if worker is not zombie:
            assert worker.stop() == 0
    await settled(site, zombie)
    assert len(await site.events(execution)) == len(events)
    assert zombie.stop() == 0


async def test_a_stopping_worker_gives_its_attempts_their_grace(site: Installation, tmp_path: Path):
    """SIGTERM: the result of an attempt that ends within the grace is kept."""
    workers = [site.worker(**NO_TIMERS, drain_grace="60s") for _ in range(2)]
    parameters = {"folder": str(tmp_path), "seconds": 1.0}
    execution = await site.start(await site.store(one("actor.effect", parameters)))
    ((_, _, _, pid, _),) = await noted(tmp_path, "began")
    assert at(pid, workers).stop() == 0
    events = await site.finished(execution)
    assert story(events) == ["waiting", "started", "completed"]


@pytest.mark.parametrize("kind", ["actor.polite", "actor.stubborn"])
async def test_a_stopping_worker_hands_its_attempts_over(
    site: Installation, tmp_path: Path, kind: str
):
    """An attempt that outlasts the grace is interrupted, and another worker retries it at once."""
    settings = {**NO_TIMERS, "drain_grace": "200ms"}
    workers = [site.worker(**settings), site.worker(**settings)]
    execution = await site.start(await site.store(one(kind, {"folder": str(tmp_path)})))
    ((_, _, _, pid, _),) = await noted(tmp_path, "began")
    assert at(pid, workers).stop() == 0
    both = await noted(tmp_path, "began", 2)
    assert len({pid for _, _, _, pid, _ in both}) == 2
    events = await site.events(execution)
    (again,) = [e for e in events if isinstance(e, StepRetrying)]
    assert (again.data.cause, fold(events).steps["a"].failures) == ("handover", 0)


async def test_a_map_spreads_its_items_over_the_workers(site: Installation, tmp_path: Path):
    """Each item is a step of its own, and so a message of its own."""
    for _ in range(2):
        site.worker(**ACTORS, worker_threads="4")
    work = {
        "for_each": "input",
        "max_parallel": 6,
        "do": {"type": "actor.gated", "with": {"folder": str(tmp_path)}},
    }
    stored = await site.store(definition({"m": {"type": "map", "with": work}}))
    execution = await site.start(stored, list(range(12)))
    begun = await noted(tmp_path, "began", 6)
    assert len({pid for _, _, _, pid, _ in begun}) == 2
    (tmp_path / "gate").touch()
    assert fold(await site.finished(execution)).status == "completed"
    counted = Counter((what, step) for what, step, *_ in effects(tmp_path))
    assert counted == {(what, f"m[{i}]"): 1 for what in ("began", "ended") for i in range(12)}


async def test_messages_that_come_twice_begin_nothing(site: Installation, tmp_path: Path):
    """While the attempt runs and when it is over; the first message is not given up for them."""
    workers = [site.worker(**ACTORS), site.worker(**ACTORS)]
    execution = await site.start(await site.store(one("actor.gated", {"folder": str(tmp_path)})))
    await noted(tmp_path, "began")
    message = message_for(site.subjects, ActorJob(TENANT, execution, "a", "actor.gated", 1))
    for _ in range(6):
        await site.jetstream.publish(message.subject, message.payload)
    await queue_has(site, "node.actor.gated", 1)
    (tmp_path / "gate").touch()
    events = await site.finished(execution)
    await site.jetstream.publish(message.subject, message.payload)
    assert story(events) == ["waiting", "started", "completed"]
    for worker in workers:
        assert worker.stop() == 0
    assert [what for what, *_ in effects(tmp_path)] == ["began", "ended"]


async def test_a_worker_that_dies_after_it_answered_that_it_runs_the_attempt_is_noticed(
    site: Installation, tmp_path: Path
):
    """The workers that asked may have acknowledged its own message; they left a watch."""
    workers = [site.worker(**ACTORS), site.worker(**ACTORS)]
    execution = await site.start(await site.store(one("actor.gated", {"folder": str(tmp_path)})))
    ((_, _, _, pid, _),) = await noted(tmp_path, "began")
    message = message_for(site.subjects, ActorJob(TENANT, execution, "a", "actor.gated", 1))
    # As if the first message had come to the other worker again, and been acknowledged there.
    await site.jetstream.api(
        f"STREAM.PURGE.{site.subjects.stream(JOBS)}",
        {"filter": site.subjects.job("node.actor.gated")},
    )
    await site.jetstream.publish(message.subject, message.payload)
    await queue_is_empty(site, "node.actor.gated")
    at(pid, workers).kill()
    await noted(tmp_path, "began", 2)
    (tmp_path / "gate").touch()
    events = await site.finished(execution)
    assert story(events) == ["waiting", "started", "retrying", "waiting", "started", "completed"]


async def test_a_log_that_is_purged_under_an_attempt_is_let_go(site: Installation, tmp_path: Path):
    """Nothing is written to an execution whose history is gone."""
    worker = site.worker(**ACTORS)
    workflow = one("actor.gated", {"folder": str(tmp_path)})
    execution = await site.start(await site.store(workflow))
    await noted(tmp_path, "began")
    subject = site.subjects.log(TENANT, execution)
    await site.jetstream.api(f"STREAM.PURGE.{site.subjects.stream(EVENTS)}", {"filter": subject})
    (tmp_path / "gate").touch()
    await queue_is_empty(site, "node.actor.gated")
    assert fold(await site.finished(await site.start(await site.store(workflow)))).is_terminal
    assert await site.commits(execution) == []
    assert worker.stop() == 0


async def test_an_attempt_outlives_an_outage_of_nats(
    site: Installation, nats_server: NatsServer, tmp_path: Path
):
    """Longer than the ack wait: its message may be given to others, which ask before they act."""
    for _ in range(2):
        site.worker(**ACTORS)
    execution = await site.start(await site.store(one("actor.gated", {"folder": str(tmp_path)})))
    await noted(tmp_path, "began")
    nats_server.kill()
    await asyncio.sleep(2)
    nats_server.start()
    await asyncio.sleep(3)
    (tmp_path / "gate").touch()
    events = await site.finished(execution)
    assert story(events) == ["waiting", "started", "completed"]
    assert [what for what, *_ in effects(tmp_path)] == ["began", "ended"]


async def test_a_message_that_came_during_a_pause_is_sent_again_after_it(
    site: Installation, tmp_path: Path
):
    """Also by a drive that has gone on all the while, because another step ran."""
    actors = site.worker(**ACTORS)
    assert actors.stop() == 0  # what it has is known now
    site.worker(ack_wait="1s")
    parameters = {"folder": str(tmp_path)}
    execution = await site.begin(
        {
            "a": {"type": "actor.effect", "with": parameters},
            "long": {"type": "simulate", "with": {"duration": "6s"}},
        }
    )
    await site.until(execution, lambda events: story(events) == ["waiting"])
    await site.commander.pause(TENANT, execution)
    site.worker(**ACTORS)
    await queue_is_empty(site, "node.actor.effect")
    await site.commander.resume(TENANT, execution)
    events = await site.finished(execution)
    assert story(events) == ["waiting", "started", "completed"]


async def queue_is_empty(site: Installation, queue: str) -> None:
    """Wait until all messages of a queue are acknowledged."""
    await queue_has(site, queue, 0)


async def queue_has(site: Installation, queue: str, count: int) -> None:
    """Poll until a queue has so many messages; there is no event for it."""
    async with asyncio.timeout(60):
        stream, subject = site.subjects.stream(JOBS), site.subjects.job(queue)
        while (await subject_counts(site.jetstream, stream, subject)).get(subject, 0) != count:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_what_an_actor_does_takes_no_longer_than_it_must(site: Installation):
    """The driver is woken by the actor's job, not by a timer."""
    site.worker(**NO_TIMERS)
    chain = {
        f"n{i}": {"type": "actor.flaky", "with": {"fails": 0}}
        | ({"needs": [f"n{i - 1}"]} if i else {})
        for i in range(10)
    }
    events = await site.finished(await site.start(await site.store(definition(chain))))
    assert fold(events).status == "completed"


@contextlib.asynccontextmanager
async def reads(site: Installation) -> AsyncIterator[Counter[str]]:
    """Count the messages, by subject, that NATS delivers to readers of stored messages."""
    counted: Counter[str] = Counter()

    async def hear(message: Msg) -> None:
        counted[(message.headers or {}).get("Nats-Subject", "")] += 1

    client = site.jetstream.client
    subscription = await client.subscribe("_INBOX.>", cb=hear)
    await until_leader_sends(client, site.subjects.stream(EVENTS))
    counted.clear()
    try:
        yield counted
        await client.flush()
    finally:
        await subscription.unsubscribe()


@pytest.mark.parametrize("max_parallel", [1, 8, 200])
async def test_the_log_of_a_map_of_actors_is_not_read_again_for_each_item(
    site: Installation, max_parallel: int
):
    """Its driver comes and goes, its actors' worker as well; either reads what is new."""
    site.worker(**ACTORS)
    work = {"type": "actor.flaky", "with": {"fails": 0}}
    parameters = {"for_each": "input", "max_parallel": max_parallel, "do": work}
    stored = await site.store(one("map", parameters))
    async with reads(site) as read:
        execution = await site.start(stored, list(range(100)))
        await has_ended(site, execution)
        await site.jetstream.client.flush()
        seen = read[site.subjects.log(TENANT, execution)]
    commits = await site.commits(execution)
    assert fold([event for commit in commits for event in commit.events()]).status == "completed"
    # Each commit once by the driver and once by the actors' worker, and room for reading it anew,
    # and for reading it again because a replica lagged. With each item it would be a hundred times.
    assert seen < 12 * len(commits)


async def has_ended(site: Installation, execution: str) -> None:
    """Wait for an end that is republished, without reading the log."""
    ended = asyncio.Event()

    async def hear(message: Msg) -> None:
        if isinstance(decode_commit(message.data)[-1], TERMINAL):
            ended.set()

    live = site.subjects.live(TENANT, execution)
    subscription = await site.jetstream.client.subscribe(live, cb=hear)
    await until_leader_sends(site.jetstream.client, site.subjects.stream(EVENTS))
    if not isinstance((await site.events(execution))[-1], TERMINAL):
        async with asyncio.timeout(60):
            await ended.wait()
    await subscription.unsubscribe()
