"""Write the log of an execution by hand, to test streams without workers."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from nats.aio.client import Client

from tailrace_shared.execution import events as ev
from tailrace_shared.execution.commits import encode_commits
from tailrace_shared.ids import new_execution_id
from tailrace_shared.nats.fenced_append import append
from tailrace_shared.nats.jetstream import JetStream
from tailrace_shared.nats.topology import EVENTS
from tailrace_shared.position import StreamPosition
from tailrace_shared.stores.execution_log import ExecutionLog
from tailrace_shared.subjects import Subjects

NOW = "2024-01-15T10:30:00.000Z"


@dataclass(slots=True)
class HandWrittenLog:
    """The log of one execution, written commit by commit.

    Attributes:
        client: a connection to NATS.
        last: the sequence of its last commit.
        written: the (type, sequence, index) of all events so far.
    """

    client: Client
    tenant: str = "default"
    execution: str = field(default_factory=new_execution_id)
    last: int = 0
    written: list[tuple[str, int, int]] = field(default_factory=list)

    async def commit(self, *events: Any) -> int:
        """Append events as one commit; return its sequence."""
        (payload,) = encode_commits(events)
        subjects = Subjects()
        self.last = await append(
            JetStream(self.client),
            subjects.stream(EVENTS),
            subjects.log(self.tenant, self.execution),
            payload,
            expected=self.last,
            writer="test",
        )
        for index, event in enumerate(events):
            self.written.append((type(event).__struct_config__.tag, self.last, index))
        return self.last

    async def begin(self, workflow: str = "flow", version: int = 1, run_input: Any = None) -> int:
        """Append the creation and the start of the execution."""
        await self.commit(queued(self.execution, workflow, version, run_input))
        return await self.commit(started(self.execution))

    async def step(self, node: str, output: Any = None) -> int:
        """Append the start and the completion of a step, as one commit."""
        return await self.commit(step_started(node), step_completed(node, output))

    async def complete(self, output: Any = None) -> int:
        """Append the completion of the execution."""
        return await self.commit(completed(self.execution, output))


def queued(
    execution: str, workflow: str = "flow", version: int = 1, run_input: Any = None
) -> ev.ExecutionQueued:
    """Return the first event of a log."""
    return ev.ExecutionQueued(
        ev.Queued(execution, workflow, workflow, version, run_input, "queued"), NOW
    )


def started(execution: str) -> ev.ExecutionStarted:
    """Return the second event of a log."""
    return ev.ExecutionStarted(ev.Started(execution, "running", NOW), NOW)


def step_started(node: str, node_type: str = "transform", attempt: int = 1) -> ev.StepStarted:
    """Return the start of a step."""
    return ev.StepStarted(ev.StepBegun(node, node_type, "running", attempt, NOW), NOW)


def step_completed(node: str, output: Any = None, node_type: str = "transform") -> ev.StepCompleted:
    """Return the success of a step."""
    return ev.StepCompleted(ev.StepDone(node, node_type, "success", 1, NOW, NOW, 5, output), NOW)


def step_progress(node: str, percent: float) -> ev.StepProgressed:
    """Return the progress of a step."""
    return ev.StepProgressed(ev.StepProgress(node, "transform", percent), NOW)


def step_log(node: str, message: str) -> ev.StepLogged:
    """Return a log line of a step."""
    return ev.StepLogged(ev.StepLog(node, "transform", "info", message), NOW)


def timed_log(node: str, size: int = 0) -> ev.StepLogged:
    """Return a log line of ``size`` characters that contains the time, for clients that measure."""
    return step_log(node, f"@{time.monotonic_ns()}@".ljust(size, "x"))


def completed(execution: str, output: Any = None) -> ev.ExecutionCompleted:
    """Return the last event of a log."""
    return ev.ExecutionCompleted(ev.Completed(execution, "completed", 60, output), NOW)


async def event_ids(log: HandWrittenLog) -> list[str]:
    """Return the SSE ids of all events so far."""
    edge = await ExecutionLog(JetStream(log.client), Subjects()).edge()
    return [str(StreamPosition(edge.epoch, sequence, index)) for _, sequence, index in log.written]


def types_of(events: Sequence[Any]) -> list[str]:
    """Return the types of the streamed events that have their own id."""
    return [event.type for event in events if event.is_logged]
