"""Logs in memory, scripted event by event, to test the readers of logs."""

from typing import Any, Self

from harness.models.log_reading import Record
from tailrace_shared.execution import events as ev
from tailrace_shared.execution.commits import encode_commits
from tailrace_shared.execution.timestamps import format_timestamp
from tailrace_shared.stores.log_records import Commit
from tailrace_shared.workflow.definition import Definition

EPOCH = 1_700_000_000.0


class ScriptedLog:
    """The log of one execution, made commit by commit; a clock gives each event its time.

    Attributes:
        now: the clock, in seconds since ``EPOCH``.
        sequence: the sequence of the newest commit; several scripts may share a stream.
    """

    def __init__(self, definition: Definition, execution: str = "e1", sequence: int = 0) -> None:
        self.definition = definition
        self.execution = execution
        self.now = 0.0
        self.sequence = sequence
        self._commits: list[Commit] = []

    @property
    def record(self) -> Record:
        """The execution, as the invariants take it."""
        return Record(self.definition, list(self._commits))

    @property
    def stamp(self) -> str:
        """The time of the clock, as events contain it."""
        return self.at(self.now)

    def at(self, seconds: float) -> str:
        """Return a timestamp, given in seconds since ``EPOCH``."""
        return format_timestamp(EPOCH + seconds)

    def by(self, writer: str, *events: ev.Event) -> Self:
        """Append events as one commit of a writer."""
        self.sequence += 1
        (payload,) = encode_commits(events)
        self._commits.append(Commit(self.sequence, payload, writer))
        return self

    # Events of an execution

    def queued(self, run_input: Any = None, **origin: Any) -> ev.Event:
        """The execution is created."""
        workflow = self.definition.id
        data = ev.Queued(self.execution, workflow, workflow, 1, run_input, "queued", **origin)
        return ev.ExecutionQueued(data, self.stamp)

    def started(self) -> ev.Event:
        """The execution starts."""
        return ev.ExecutionStarted(ev.Started(self.execution, "running", self.stamp), self.stamp)

    def completed(self, output: Any = None) -> ev.Event:
        """The execution completes."""
        return ev.ExecutionCompleted(
            ev.Completed(self.execution, "completed", 0, output), self.stamp
        )

    def failed(self, node: str) -> ev.Event:
        """The execution fails because of a node."""
        data = ev.Failed(self.execution, "failed", 0, f"{node}: broken", node)
        return ev.ExecutionFailed(data, self.stamp)

    def timed_out(self) -> ev.Event:
        """The execution fails because of the time limit of its workflow."""
        data = ev.Failed(self.execution, "failed", 0, "timed out after 1s")
        return ev.ExecutionFailed(data, self.stamp)

    def cancelled(self) -> ev.Event:
        """The execution is cancelled."""
        return ev.ExecutionCancelled(ev.Cancelled(self.execution, "cancelled", 0), self.stamp)

    def paused(self, *waiting: str, requested: bool = False) -> ev.Event:
        """The execution pauses."""
        data = ev.Paused(self.execution, "paused", "signal", requested, list(waiting))
        return ev.ExecutionPaused(data, self.stamp)

    def resumed(self) -> ev.Event:
        """The execution resumes."""
        return ev.ExecutionResumed(ev.Resumed(self.execution, "running"), self.stamp)

    def command(self, command: Any, **fields: Any) -> ev.Event:
        """A command is requested."""
        command_id = f"c{self.sequence}"
        return ev.CommandRequested(
            ev.Command(self.execution, command, command_id, **fields), self.stamp
        )

    # Events of a step

    def start(self, step: str, attempt: int = 1, **fields: Any) -> ev.Event:
        """An attempt begins."""
        data = ev.StepBegun(step, self._type(step), "running", attempt, self.stamp, **fields)
        return ev.StepStarted(data, self.stamp)

    def succeed(self, step: str, output: Any = None, attempt: int = 1, **fields: Any) -> ev.Event:
        """A step succeeds."""
        data = ev.StepDone(
            step, self._type(step), "success", attempt, self.stamp, self.stamp, 0, output, **fields
        )
        return ev.StepCompleted(data, self.stamp)

    def fail(self, step: str, attempt: int = 1, error: str = "broken") -> ev.Event:
        """A step fails finally."""
        data = ev.StepError(
            step, self._type(step), "error", attempt, self.stamp, self.stamp, 0, error
        )
        return ev.StepFailed(data, self.stamp)

    def again(
        self, step: str, attempt: int = 1, cause: Any = "error", after: float = 0.5
    ) -> ev.Event:
        """An attempt ends and will be retried."""
        retry_at = self.at(self.now + after)
        data = ev.StepAgain(step, self._type(step), "retrying", attempt, cause, "broken", retry_at)
        return ev.StepRetrying(data, self.stamp)

    def skip(self, step: str, reason: Any = "needs") -> ev.Event:
        """A step is skipped."""
        return ev.StepSkipped(ev.StepSkip(step, self._type(step), "skipped", reason), self.stamp)

    def wait(self, step: str, wait: Any, **fields: Any) -> ev.Event:
        """A step waits."""
        data = ev.StepWait(step, self._type(step), "waiting", wait=wait, **fields)
        return ev.StepWaiting(data, self.stamp)

    def expand(self, step: str, items: list[Any]) -> ev.Event:
        """A map has evaluated its items."""
        return ev.StepExpanded(
            ev.StepExpansion(step, self._type(step), "running", items), self.stamp
        )

    def log(self, step: str) -> ev.Event:
        """A step writes a log line."""
        return ev.StepLogged(ev.StepLog(step, self._type(step), "info", "line"), self.stamp)

    def _type(self, step: str) -> str:
        node = self.definition.nodes.get(step.partition("[")[0])
        return "?" if node is None else node.type
