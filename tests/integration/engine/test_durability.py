"""Executions survive dead, frozen and stopping workers, rival drivers, and restarts of NATS."""

import asyncio
import time
from collections import Counter
from pathlib import Path
from typing import Any

from harness.generators.workflows import definition
from harness.nats.server import NatsServer
from harness.nats.tcp_proxy import Proxy
from harness.processes.installation import TENANT, Installation
from harness.processes.service import Service
from tailrace_shared.errors import WrongLastSequenceError
from tailrace_shared.execution.commits import encode_commits
from tailrace_shared.execution.events import (
    TERMINAL,
    Event,
    StepCompleted,
    StepRetrying,
    StepStarted,
)
from tailrace_shared.execution.state import ExecutionState, fold
from tailrace_shared.nats.fenced_append import append
from tailrace_shared.nats.jetstream import subject_counts
from tailrace_shared.nats.jobs import EXECUTIONS_QUEUE
from tailrace_shared.nats.topology import EVENTS, JOBS
from tailrace_shared.workflow.definition import Definition
from tailrace_worker.engine.decide.outcomes import completed
from tailrace_worker.engine.decide.plan import Plan
from tailrace_worker.engine.decide.scheduler import Scheduler

NODES = {"nodes": "node_functions"}
NO_TIMERS = {"ack_wait": "1h", "sweep_interval": "1h"}
"""An execution that continues within an hour was not woken by a timer."""


def chain(folder: Path, length: int, seconds: float, held: str = "") -> Definition:
    """Return a chain of steps whose effects are noted in ``folder``; one awaits the file ``go``."""
    parameters = {"folder": str(folder), "seconds": seconds, "held": held}
    return definition(
        {
            f"n{i}": {
                "type": "test.effect",
                "with": parameters,
                "needs": [f"n{i - 1}"] if i else [],
            }
            for i in range(length)
        }
    )


def effects(folder: Path) -> Counter[tuple[str, str]]:
    """Return how often each node began and ended."""
    lines = (folder / "effects").read_text().splitlines()
    return Counter((line.split()[0], line.split()[1]) for line in lines)


def wait_until_begun(folder: Path, node: str) -> None:
    """Wait until a step has had its first effect, of which the log cannot tell."""
    while not (folder / "effects").exists() or not effects(folder)["began", node]:
        time.sleep(0.02)


def has_completed(node: str) -> Any:
    """Return a condition on a log: the node has completed."""
    return lambda events: any(
        isinstance(event, StepCompleted) and event.data.node_id == node for event in events
    )


async def driver(site: Installation, execution: str, workers: list[Service]) -> Service:
    """Return the worker that drives an execution: its process id is in its writer's name."""
    writer = (await site.commits(execution))[-1].writer
    (found,) = [worker for worker in workers if f"-{worker.pid}-" in writer]
    return found


def completions(events: list[Event]) -> Counter[str]:
    """Return how often each node completed."""
    return Counter(e.data.node_id for e in events if isinstance(e, StepCompleted))


async def test_a_killed_workers_execution_is_finished_by_another(
    site: Installation, tmp_path: Path
):
    """A step whose worker is killed by SIGKILL is retried; completed steps are not."""
    workers = [site.worker(**NODES), site.worker(**NODES)]
    stored = await site.store(chain(tmp_path, 6, 0.0, held="n2"))
    execution = await site.start(stored)
    await site.until(execution, has_completed("n1"))
    await asyncio.to_thread(wait_until_begun, tmp_path, "n2")
    (await driver(site, execution, workers)).kill()
    (tmp_path / "go").touch()
    events = await site.finished(execution)
    assert fold(events).status == "completed"
    assert set(completions(events).values()) == {1}
    began = effects(tmp_path)
    assert [began["ended", f"n{i}"] for i in range(6)] == [1] * 6
    (again,) = [e for e in events if isinstance(e, StepRetrying)]
    assert (again.data.cause, again.data.node_id) == ("crash", "n2")
    assert began["began", "n2"] == 2
    keys = {
        line.split()[4]
        for line in (tmp_path / "effects").read_text().splitlines()
        if line.split()[1] == "n2"
    }
    assert keys == {f"{execution}:n2"}


async def test_a_frozen_worker_is_displaced_and_changes_nothing_when_it_wakes(
    site: Installation, tmp_path: Path
):
    """SIGSTOP beyond the ack wait, then SIGCONT: the zombie notices and lets go."""
    workers = [site.worker(**NODES, ack_wait="1s"), site.worker(**NODES, ack_wait="1s")]
    stored = await site.store(chain(tmp_path, 4, 0.0, held="n1"))
    execution = await site.start(stored)
    await asyncio.to_thread(wait_until_begun, tmp_path, "n1")
    zombie = await driver(site, execution, workers)
    zombie.freeze()
    (tmp_path / "go").touch()
    events = await site.finished(execution)
    zombie.thaw()
    # The zombie is itself again when it runs something new.
    other = await site.start(await site.store(definition({"a": {}})))
    await site.finished(other)
    assert len(await site.events(execution)) == len(events)
    assert set(completions(events).values()) == {1}
    assert zombie.stop() == 0


async def test_a_stopping_worker_hands_over_at_once(site: Installation, tmp_path: Path):
    """SIGTERM: no ack timeout is needed, and the running step gets its grace."""
    workers = [site.worker(**NODES, **NO_TIMERS) for _ in range(2)]
    stored = await site.store(chain(tmp_path, 3, 0.0, held="n0"))
    execution = await site.start(stored)
    await asyncio.to_thread(wait_until_begun, tmp_path, "n0")
    leaving = await driver(site, execution, workers)
    stopping = asyncio.create_task(asyncio.to_thread(leaving.stop))
    await asyncio.to_thread(wait_until_said, leaving, "stopping")
    (tmp_path / "go").touch()
    assert await stopping == 0
    events = await site.finished(execution)
    assert fold(events).status == "completed"
    assert not [e for e in events if isinstance(e, StepRetrying)]
    writers = {c.writer for c in await site.commits(execution) if c.writer}
    assert len(writers) == 2


async def test_a_step_that_outlasts_the_grace_is_tried_again_elsewhere(
    site: Installation, tmp_path: Path
):
    """The log says that the attempt ended because its worker stopped; that is no failure."""
    workers = [site.worker(**NODES, **NO_TIMERS, drain_grace="100ms") for _ in range(2)]
    stored = await site.store(chain(tmp_path, 1, 0.0, held="n0"))
    execution = await site.start(stored)
    await asyncio.to_thread(wait_until_begun, tmp_path, "n0")
    assert (await driver(site, execution, workers)).stop() == 0
    (tmp_path / "go").touch()
    events = await site.finished(execution)
    (again,) = [e for e in events if isinstance(e, StepRetrying)]
    assert again.data.cause == "handover"
    assert fold(events).steps["n0"].failures == 0


async def test_jobs_delivered_twice_drive_once(site: Installation, tmp_path: Path):
    """The driver is asked first; a needless job is dropped, on its own worker and on others."""
    site.worker(**NODES, ack_wait="60s")
    site.worker(**NODES, ack_wait="60s")
    stored = await site.store(chain(tmp_path, 3, 0.0, held="n0"))
    execution = await site.start(stored)
    await asyncio.to_thread(wait_until_begun, tmp_path, "n0")
    for _ in range(8):
        await site.enqueue(execution)
    (tmp_path / "go").touch()
    events = await site.finished(execution)
    assert set(effects(tmp_path).values()) == {1}
    assert len({c.writer for c in await site.commits(execution) if c.writer}) == 1
    assert not [e for e in events if isinstance(e, StepRetrying)]


async def test_of_two_writers_one_wins_each_append_and_the_log_stays_legal(site: Installation):
    """Two engines at the same execution, unaware of each other, and no worker to help them."""
    workflow = definition({f"n{i}": {"needs": [f"n{i - 1}"] if i else []} for i in range(30)})
    stored = await site.store(workflow)
    execution = "two-writers"
    await site.log.create(TENANT, execution, stored, None)
    wins: Counter[str] = Counter()

    async def write(name: str) -> None:
        while True:
            history = await site.log.load(TENANT, execution)
            scheduler = Scheduler(Plan(workflow), history.state)
            if history.state.is_terminal:
                return
            stamp = history.state.created_at or ""
            batch = [scheduler.record(completed(step, name, stamp)) for step in scheduler.attended]
            batch += scheduler.decide(0.0)
            (payload,) = encode_commits(batch)
            await asyncio.sleep(0)
            try:
                await append(
                    site.jetstream,
                    site.subjects.stream(EVENTS),
                    site.subjects.log(TENANT, execution),
                    payload,
                    expected=history.last_sequence,
                    writer=name,
                )
                wins[name] += 1
            except WrongLastSequenceError:
                wins["lost"] += 1

    await asyncio.gather(write("first"), write("second"), write("third"))
    events = await site.events(execution)
    state = ExecutionState()
    for event in events:
        state.apply(event)
    assert state.status == "completed"
    assert sum(isinstance(event, TERMINAL) for event in events) == 1
    assert set(completions(events).values()) == {1}
    assert wins["first"] + wins["second"] + wins["third"] == len(await site.commits(execution)) - 1
    assert wins["lost"] > 0


async def test_executions_survive_a_killed_and_restarted_nats(
    site: Installation, nats_server: NatsServer, tmp_path: Path
):
    """The worker waits for NATS to come back, and goes on where the log stands."""
    site.worker(**NODES)
    stored = await site.store(chain(tmp_path, 8, 0.1))
    executions = [await site.start(stored) for _ in range(10)]
    await site.until(executions[0], has_completed("n1"))
    nats_server.kill()
    nats_server.start()
    for execution in executions:
        events = await site.finished(execution)
        assert fold(events).status == "completed"
        assert set(completions(events).values()) == {1}


async def test_a_worker_that_reconnects_keeps_its_running_steps(site: Installation, tmp_path: Path):
    """Another worker gets a job of the execution meanwhile, and asks a second time."""
    async with Proxy(site.nats.url) as proxy:
        environment = {
            **site.environment,
            "NATS_URL": proxy.url,
            **{f"TAILRACE_{key.upper()}": value for key, value in NODES.items()},
            "TAILRACE_ACK_WAIT": "30s",
        }
        service = Service("tailrace_worker", environment, tmp_path / "reconnecting.log")
        # The proxy runs on this loop.
        await asyncio.to_thread(service.start)
        try:
            execution = await site.start(await site.store(chain(tmp_path, 1, 0.0, held="n0")))
            await asyncio.to_thread(wait_until_begun, tmp_path, "n0")
            await asyncio.to_thread(site.worker, **NODES)
            await proxy.cut()
            await site.enqueue(execution)
            # The other worker sets a watch when it finds that the execution is driven.
            watches = (site.subjects.stream(JOBS), site.subjects.delayed(EXECUTIONS_QUEUE))
            async with asyncio.timeout(60):
                while not await subject_counts(site.jetstream, *watches):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            (tmp_path / "go").touch()
            events = await site.finished(execution)
        finally:
            service.kill()
    assert not [event for event in events if isinstance(event, StepRetrying)]
    assert set(effects(tmp_path).values()) == {1}


async def test_a_log_that_is_purged_under_its_worker_is_let_go(site: Installation, tmp_path: Path):
    """Nothing is written to an execution whose history is gone; the worker goes on with others."""
    worker = site.worker(**NODES)
    stored = await site.store(chain(tmp_path, 2, 0.0, held="n0"))
    execution = await site.start(stored)
    await asyncio.to_thread(wait_until_begun, tmp_path, "n0")
    subject = site.subjects.log(TENANT, execution)
    await site.jetstream.api(f"STREAM.PURGE.{site.subjects.stream(EVENTS)}", {"filter": subject})
    (tmp_path / "go").touch()
    other = await site.start(await site.store(chain(tmp_path, 2, 0.0)))
    await site.finished(other)
    assert await site.commits(execution) == []
    assert worker.stop() == 0


async def test_nothing_starts_before_its_needs_on_two_workers(site: Installation):
    """Many small executions at once, over two workers: every log is legal and in order."""
    site.worker()
    site.worker()
    workflow = definition(
        {
            "a": {},
            "b": {"needs": ["a"]},
            "c": {"needs": ["a"]},
            "d": {"needs": ["b", "c"]},
        }
    )
    stored = await site.store(workflow)
    executions = [await site.start(stored) for _ in range(100)]
    for execution in executions:
        state = ExecutionState()
        for event in await site.finished(execution):
            if isinstance(event, StepStarted):
                needs = workflow.nodes[event.data.node_id].needs
                assert all(state.steps[need].status == "success" for need in needs)
            state.apply(event)
        assert state.status == "completed"


async def test_the_job_of_a_worker_that_was_frozen_for_a_while_is_not_lost(
    site: Installation, tmp_path: Path
):
    """Its job was delivered to another worker, which asked and let go; now it dies after all."""
    workers = [site.worker(**NODES, ack_wait="1s"), site.worker(**NODES, ack_wait="1s")]
    stored = await site.store(chain(tmp_path, 3, 1.5))
    execution = await site.start(stored)
    await site.until(execution, lambda events: len(events) >= 3)
    doomed = await driver(site, execution, workers)
    for _ in range(3):
        # The same job, as a redelivery would bring it: the other worker asks, and acknowledges.
        await site.enqueue(execution)
    await site.until(execution, has_completed("n0"))
    doomed.kill()
    events = await site.finished(execution)
    assert fold(events).status == "completed"
    assert set(completions(events).values()) == {1}


def wait_until_said(worker: Service, words: str) -> None:
    """Wait until a worker has written something that it tells its log alone."""
    while words not in worker.log_text:
        time.sleep(0.02)


def wait_until_written(file: Path, before: str) -> None:
    """Poll until another process, which has no NATS connection, has written to a file."""
    while not file.exists() or file.read_text() == before:
        time.sleep(0.02)


async def test_steps_go_on_while_nats_is_away(
    site: Installation, nats_server: NatsServer, tmp_path: Path
):
    """An outage that a step outlasts costs the step nothing: it is neither lost nor begun again."""
    site.worker(**NODES)
    execution = await site.start(await site.store(chain(tmp_path, 2, 0.0, held="n0")))
    await asyncio.to_thread(wait_until_begun, tmp_path, "n0")
    nats_server.kill()
    began = (tmp_path / "effects").read_text()
    (tmp_path / "go").touch()
    await asyncio.to_thread(wait_until_written, tmp_path / "effects", began)
    nats_server.start()
    events = await site.finished(execution)
    assert not [event for event in events if isinstance(event, StepRetrying)]
    assert set(effects(tmp_path).values()) == {1}


async def test_a_cancel_during_a_drain_starts_nothing_again(site: Installation, tmp_path: Path):
    """The drain loses its fence to the cancel; what it has stopped stays stopped."""
    leaving = site.worker(**NODES, drain_grace="200ms")
    execution = await site.start(await site.store(chain(tmp_path, 1, 3600.0)))
    await asyncio.to_thread(wait_until_begun, tmp_path, "n0")
    stopping = asyncio.to_thread(leaving.stop)
    await asyncio.gather(stopping, site.commander.cancel(TENANT, execution, "enough"))
    site.worker(**NODES)
    await site.enqueue(execution)
    events = await site.finished(execution)
    assert fold(events).status == "cancelled"
    assert effects(tmp_path)["began", "n0"] == 1


async def test_an_execution_whose_first_commits_have_expired_is_let_go(
    site: Installation, tmp_path: Path
):
    """Half a history cannot be driven; the worker logs it once and continues with others."""
    began_it = site.worker(**NODES)
    delayed = definition({"a": {"type": "delay", "with": {"duration": "3s"}}})
    execution = await site.start(await site.store(delayed))
    await site.until(execution, lambda events: len(events) >= 3)
    # Another worker has nothing of it in memory.
    began_it.kill()
    (first, *_rest) = await site.commits(execution)
    await site.jetstream.api(
        f"STREAM.MSG.DELETE.{site.subjects.stream(EVENTS)}", {"seq": first.sequence}
    )
    worker = site.worker(**NODES)
    await site.enqueue(execution)
    other = await site.start(await site.store(chain(tmp_path, 1, 0.1)))
    assert fold(await site.finished(other)).status == "completed"
    await asyncio.to_thread(wait_until_said, worker, "has expired")
    assert worker.stop() == 0
