"""Record the golden logs of a new release: ``PYTHONPATH=tests python tests/golden/record_logs.py``.

Runs executions on real workers that use every event and every field of it, and writes what is in
their logs under ``tests/golden/logs/<version>``. The logs of a release that has any are left as
they are: they are what that release wrote, and no other can write them again.
"""

import asyncio
import os
import signal
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from harness.campaigns.campaign import Campaign, campaign
from harness.generators.golden_logs import LOGS, write_golden_log
from harness.generators.random_workflows import ACTOR, ALWAYS, PROCEDURE, STEP, checked
from harness.models.log_reading import Record
from harness.nats.server import NatsServer
from harness.processes.installation import TENANT
from tailrace_shared.commands.execution_commands import Caller, Decision
from tailrace_shared.commands.run_starter import RunRequest
from tailrace_shared.execution.events import (
    Event,
    ExecutionStarted,
    Origin,
    StepCompleted,
    StepStarted,
    StepWaiting,
)
from tailrace_shared.ids import new_token
from tailrace_shared.nats.topology import WORKFLOWS

ANN = Caller("ann")


def every_step() -> dict[str, Any]:
    """Return nodes of all kinds, of which none fails in the end."""
    item = {
        "type": STEP,
        "with": {"fails": "${item}"},
        "retry": {"max_attempts": 2, "initial": "10ms"},
    }
    return {
        "first": {
            "type": STEP,
            "name": "The first of them",
            "stage": "beginning",
            "with": {"fails": 1},
            "retry": {"max_attempts": 3, "initial": "20ms"},
        },
        "talk": {"type": "log", "with": {"message": "hello", "level": "warning"}},
        "report": {
            "type": "simulate",
            "stage": "reporting",
            "with": {"duration": "300ms", "progress": True},
        },
        "speak": {"type": "proof.talk"},
        "nap": {"type": "delay", "with": {"duration": "100ms"}, "needs": ["first"]},
        "unwanted": {"type": "transform", "with": {"value": 1}, "when": "input.n > 100"},
        "large": {"type": STEP, "with": {"bytes": 300_000}},
        "each": {
            "type": "map",
            "with": {
                "for_each": "[0, 1, 1000]",
                "do": item,
                "max_parallel": 2,
                "on_error": "collect",
            },
        },
        "child": {"type": "workflow", "with": {"id": "child", "input": {"from": "golden"}}},
        "actor": {"type": ACTOR, "needs": ["first"]},
        "emit": {"type": "emit", "with": {"procedure": "proof.emitted", "data": {"n": 1}}},
        "approve": {
            "type": "await",
            "with": {
                "reason": "approval",
                "form": {"type": "object", "properties": {"ok": {"type": "boolean"}}},
            },
            "timeout": "1h",
            "on_timeout": "cancel",
            "needs": ["first", "report", "speak", "nap", "large", "each", "child", "actor"],
        },
        "triggered": {
            "type": "await",
            "with": {"triggers": [PROCEDURE], "match": "event.n == input.n", "lookback": "1m"},
            "needs": ["approve"],
        },
    }


async def waiting(opened: Campaign, execution: str, node: str) -> None:
    """Wait until a step waits for a signal."""
    await opened.site.until(
        execution,
        lambda events: any(isinstance(e, StepWaiting) and e.data.node_id == node for e in events),
    )


async def everything(opened: Campaign) -> str:
    """Every kind of step, a decision, a trigger, and a workflow output."""
    workflow = checked({"id": "everything", "nodes": every_step(), "output": {"n": "${input.n}"}})
    execution = await opened.start(await opened.store(workflow), {"n": 7})
    await waiting(opened, execution, "approve")
    decision = Decision("approve", "approved", {"ok": True})
    await opened.commander.resolve(TENANT, execution, decision, ANN)
    await waiting(opened, execution, "triggered")
    await opened.signals.emit(TENANT, PROCEDURE, {"n": 7}, new_token())
    return execution


async def failed(opened: Campaign) -> str:
    """A failure, a step that it prevents, and a step that runs nevertheless."""
    nodes: dict[str, Any] = {
        "bad": {"type": STEP, "stage": "failing", "with": {"fails": ALWAYS}},
        "good": {"type": STEP},
        "never": {"type": STEP, "needs": ["bad"]},
        "tidy": {"type": "transform", "with": {"value": 1}, "needs": ["never"], "join": "all_done"},
    }
    return await opened.start(await opened.store(checked({"id": "failed", "nodes": nodes})))


async def rerun(opened: Campaign) -> str:
    """A rerun from the failed step."""
    original = await failed(opened)
    await opened.site.finished(original)
    state = await opened.starter.rerun(TENANT, original, "bad", new_token())
    return state.execution_id


async def crashed(opened: Campaign) -> str:
    """Two worker crashes: one step is retried, one must not be."""
    nodes: dict[str, Any] = {
        "again": {"type": STEP, "with": {"die": "after effect"}},
        "once": {
            "type": STEP,
            "with": {"die": "after effect"},
            "on_crash": "fail",
            "needs": ["again"],
        },
    }
    return await opened.start(await opened.store(checked({"id": "crashed", "nodes": nodes})))


async def cancelled(opened: Campaign) -> str:
    """A cancellation while a step and a child run are active."""
    nodes: dict[str, Any] = {
        "slow": {"type": STEP, "with": {"seconds": 60}},
        "child": {"type": "workflow", "with": {"id": "slow-child"}},
        "ask": {"type": "await"},
    }
    await opened.store(checked({"id": "slow-child", "nodes": {"slow": nodes["slow"]}}))
    execution = await opened.start(await opened.store(checked({"id": "cancelled", "nodes": nodes})))
    await waiting(opened, execution, "child")
    await waiting(opened, execution, "ask")
    await opened.commander.cancel(TENANT, execution, "no longer needed", ANN)
    return execution


async def paused(opened: Campaign) -> str:
    """A pause, a resume, a rejection and a timeout."""
    nodes: dict[str, Any] = {
        "slow": {"type": STEP, "with": {"seconds": 0.5}},
        "reject": {"type": "await", "with": {"on_reject": "fail"}, "needs": ["slow"]},
        "late": {"type": "await", "timeout": "300ms", "on_timeout": "continue", "needs": ["slow"]},
        "last": {"type": STEP, "needs": ["reject", "late"], "join": "all_done"},
    }
    execution = await opened.start(await opened.store(checked({"id": "paused", "nodes": nodes})))
    await opened.site.until(
        execution, lambda events: any(isinstance(e, StepStarted) for e in events)
    )
    await opened.commander.pause(TENANT, execution, "a look around", ANN)
    await opened.site.until(
        execution, lambda events: str(type(events[-1]).__struct_config__.tag) == "execution:paused"
    )
    await opened.commander.resume(TENANT, execution, ANN)
    await waiting(opened, execution, "reject")
    await opened.commander.resolve(TENANT, execution, Decision("reject", "rejected"), ANN)
    return execution


async def large(opened: Campaign) -> str:
    """Outputs too large for an event, of a map and of the execution."""
    item = {"type": STEP, "with": {"bytes": "${item}"}}
    nodes: dict[str, Any] = {
        "by-reference": {"type": STEP, "with": {"bytes": 300_000}},
        "each": {"type": "map", "with": {"for_each": "[70000]", "do": item}},
    }
    return await opened.start(await opened.store(checked({"id": "large", "nodes": nodes})))


async def marked(opened: Campaign) -> str:
    """Sensitive input, copied into every field of an event that can hold it."""
    card = {"type": "string", "sensitive": True}
    form = {"type": "object", "properties": {"pin": {"sensitive": True}}}
    each = {"for_each": "input.cards", "do": {"type": "transform", "with": {"value": "${item}"}}}
    nodes: dict[str, Any] = {
        "talk": {"type": "proof.talk", "stage": "talking", "with": {"about": "${input.card}"}},
        "each": {"type": "map", "with": each},
        "child": {"type": "workflow", "with": {"id": "child", "input": {"of": "${input.card}"}}},
        "approve": {"type": "await", "with": {"form": form}, "sensitive": ["/event"]},
        "copy": {"type": "transform", "with": {"value": "${input.card}"}, "needs": ["approve"]},
    }
    schema = {"properties": {"card": card, "cards": {"items": card}}}
    workflow = checked({"id": "marked", "nodes": nodes, "input": schema})
    run_input = {"card": "4111-1111", "cards": ["4222-2222", "4333-3333"]}
    execution = await opened.start(await opened.store(workflow), run_input)
    await waiting(opened, execution, "approve")
    decision = Decision("approve", "approved", {"pin": "0815"})
    await opened.commander.resolve(TENANT, execution, decision, ANN)
    return execution


async def timed(opened: Campaign) -> str:
    """Runs of one workflow until there is an estimate of its duration."""
    nodes = {"report": {"type": "simulate", "with": {"duration": "500ms", "progress": True}}}
    workflow = await opened.store(checked({"id": "timed", "nodes": nodes}))
    while True:
        execution = await opened.start(workflow)
        events = await opened.site.finished(execution)
        if any(isinstance(e, ExecutionStarted) and e.data.eta_ms for e in events):
            return execution


async def gone(opened: Campaign) -> str:
    """A waiting step whose workflow has been deleted."""
    nodes = {"ask": {"type": "await"}}
    workflow = await opened.store(checked({"id": "gone", "nodes": nodes}))
    execution = await opened.start(workflow)
    await opened.site.waits(execution, ["ask"])
    bucket = opened.site.subjects.stream(WORKFLOWS)
    subject = f"$KV.{bucket}.{TENANT}.{workflow}"
    await opened.site.jetstream.api(f"STREAM.PURGE.KV_{bucket}", {"filter": subject})
    # Running workers have it in their cache, so replace them.
    for worker in opened.workers:
        os.kill(worker.pid, signal.SIGKILL)
    await opened.commander.resolve(TENANT, execution, Decision("ask"), ANN)
    return execution


async def mended(opened: Campaign) -> str:
    """A failure that is made good, beside one that the run survives, and a clean-up."""
    nodes: dict[str, Any] = {
        "unsteady": {"type": STEP, "on_error": "continue", "with": {"fails": ALWAYS}},
        "strict": {"type": STEP, "needs": ["unsteady"], "join": "all_success"},
        "bad": {"type": STEP, "needs": ["strict"], "with": {"fails": ALWAYS}},
    }
    undo = {"type": "transform", "with": {"value": "${nodes.bad.error}"}}
    workflow = checked(
        {
            "id": "mended",
            "nodes": nodes,
            "defaults": {"retry": {"max_attempts": 2, "initial": "10ms"}, "timeout": "1m"},
            "on_failure": {"nodes": {"undo": undo}, "then": "completed"},
            "finally": {"nodes": {"tidy": {"type": STEP, "with": {"die": "after effect"}}}},
        }
    )
    return await opened.start(await opened.store(workflow))


async def taken_up(opened: Campaign) -> str:
    """A rerun of what has failed, with a fixed definition and another input."""
    item = {"type": STEP, "with": {"fails": "${item}"}}
    each = {"for_each": f"[0, {ALWAYS}, 0]", "on_error": "collect", "do": item}
    nodes: dict[str, Any] = {
        "good": {"type": STEP},
        "each": {"type": "map", "with": each},
        "bad": {"type": STEP, "needs": ["good"], "with": {"fails": ALWAYS}},
    }
    broken = checked({"id": "taken-up", "nodes": nodes, "tags": ["eu"]})
    original = await opened.start(await opened.store(broken), {"n": 1})
    await opened.site.finished(original)
    fixed = {**nodes, "bad": {"type": STEP, "needs": ["good"]}}
    await opened.store(checked({"id": "taken-up", "nodes": fixed, "tags": ["eu"]}))
    state = await opened.starter.rerun(
        TENANT,
        original,
        None,
        new_token(),
        failed=True,
        version="latest",
        new_input={"n": 2},
    )
    return state.execution_id


async def scheduled(opened: Campaign) -> str:
    """A firing of a schedule with an overlap policy and tags, and a wait with variables."""
    nodes: dict[str, Any] = {
        "at": {"type": "transform", "with": {"value": "${execution.scheduled_at}"}},
        "ask": {"type": "await", "needs": ["at"]},
    }
    workflow = await opened.store(checked({"id": "scheduled", "nodes": nodes, "tags": ["nightly"]}))
    origin = Origin(
        schedule="two-o-clock",
        scheduled_at="2026-01-01T02:00:00.000Z",
        overlap="queue",
        tags=("eu",),
    )
    request = RunRequest(TENANT, workflow, "input", {"n": 1}, None, new_token(), origin)
    execution = (await opened.starter.start(request)).execution_id
    opened.started.append(execution)
    await waiting(opened, execution, "ask")
    await opened.commander.resolve(TENANT, execution, Decision("ask"), ANN)
    return execution


async def overdue(opened: Campaign) -> str:
    """A time limit that ends a step and a wait."""
    nodes: dict[str, Any] = {
        "slow": {"type": STEP, "with": {"seconds": 60}},
        "ask": {"type": "await"},
    }
    workflow = checked(
        {
            "id": "overdue",
            "nodes": nodes,
            "timeout": "1s",
            "finally": {"nodes": {"tidy": {"type": STEP}}},
        }
    )
    return await opened.start(await opened.store(workflow))


async def stopped(opened: Campaign) -> str:
    """A cancellation, after which the clean-up runs."""
    nodes: dict[str, Any] = {
        "slow": {"type": STEP, "with": {"seconds": 60}},
        "ask": {"type": "await"},
    }
    tidy = {"type": "log", "with": {"message": "${nodes.slow.status}"}}
    workflow = checked({"id": "stopped", "nodes": nodes, "finally": {"nodes": {"tidy": tidy}}})
    execution = await opened.start(await opened.store(workflow))
    await waiting(opened, execution, "ask")
    await opened.commander.cancel(TENANT, execution, "no longer needed", ANN)
    return execution


async def named(opened: Campaign) -> str:
    """Names of steps that end in all ways, two waits one after the other, and a document."""
    wait = {"type": "await", "needs": ["draft"]}
    nodes: dict[str, Any] = {
        "draft": {"type": "transform", "with": {"value": {"document_id": "d-1"}}},
        "talk": {"type": "proof.talk", "name": "A report"},
        "unwanted": {
            "type": "transform",
            "name": "Unwanted",
            "when": "false",
            "with": {"value": 1},
        },
        "broken": {
            "type": STEP,
            "name": "A step with a traceback",
            "on_error": "continue",
            "retry": {"max_attempts": 2, "initial": "10ms"},
            "with": {"seconds": "soon"},
        },
        "first": {**wait, "name": "The first decision"},
        "second": wait,
    }
    output = {"generated_document_id": "${nodes.draft.output.document_id}"}
    workflow = checked({"id": "named", "nodes": nodes, "output": output})
    execution = await opened.start(await opened.store(workflow))
    await opened.site.waits(execution, ["first", "second"])
    await opened.commander.resolve(TENANT, execution, Decision("first"), ANN)
    await opened.site.until(execution, lambda events: any(is_end_of(e, "first") for e in events))
    await opened.commander.resolve(TENANT, execution, Decision("second"), ANN)
    return execution


def is_end_of(event: Event, node_id: str) -> bool:
    """Return whether a step completes in an event."""
    return isinstance(event, StepCompleted) and event.data.node_id == node_id


SCENES = (
    *(everything, failed, rerun, crashed, cancelled, paused, large, marked, timed, gone),
    *(mended, overdue, stopped, taken_up, scheduled, named),
)


async def record(folder: Path, scratch: Path) -> None:
    """Run all scenes and write their logs."""
    with NatsServer(scratch / "nats") as server:
        async with campaign(server, scratch, seed=3) as opened:
            for _ in range(2):
                opened.worker()
            stop = asyncio.Event()
            reviving = asyncio.create_task(opened.revive(stop))
            names = {await scene(opened): scene.__name__ for scene in SCENES}
            records = await opened.settled(60)
            names |= {
                execution: record.definition.id
                for execution, record in records.items()
                if record.definition.id.endswith("child")
            }
            stop.set()
            await reviving
            await opened.check(records, modelled=False)
    write(folder, {names.get(execution): found for execution, found in records.items()})


def write(folder: Path, records: dict[str | None, Record]) -> None:
    """Write the logs of the scenes."""
    folder.mkdir(parents=True)
    for name, found in records.items():
        if name is not None:
            write_golden_log(folder, name, found)


def main() -> None:
    """Record the logs of the installed release, unless it has some."""
    folder = LOGS / version("tailrace-worker")
    if folder.exists():
        sys.exit(f"{folder} exists: logs are recorded for a new release, never for an old one")
    with tempfile.TemporaryDirectory() as scratch:
        asyncio.run(record(folder, Path(scratch)))


if __name__ == "__main__":
    main()
