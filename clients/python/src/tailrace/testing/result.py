"""The result of a simulated run."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec

from tailrace_shared.execution.events import Event as LoggedEvent
from tailrace_shared.execution.state import ExecutionState
from tailrace_shared.execution.timestamps import parse_timestamp
from tailrace_shared.workflow.definition import Definition
from tailrace_shared.workflow.validation import Problem


class ScriptError(AssertionError):
    """An action of the script could not happen; the message says why."""


class InvalidWorkflowError(ValueError):
    """The definition or the input of a run is not valid.

    Attributes:
        problems: every invalid place, with a sentence.
    """

    def __init__(self, summary: str, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join([summary, *(f"{p.pointer}: {p.detail}" for p in self.problems)]))


@dataclass(frozen=True, slots=True)
class Event:
    """An event of the log: its type, its data and its time (RFC 3339)."""

    type: str
    data: Mapping[str, Any]
    timestamp: str


@dataclass(frozen=True, slots=True)
class Step:
    """How a step ended, or how far it came.

    Attributes:
        status: ``success``, ``error``, ``skipped``, ``cancelled``, or one of a step that has not
            ended.
        attempts: how many attempts it had.
        detail: the traceback of the error.
    """

    status: str
    output: Any = None
    error: str | None = None
    attempts: int = 0
    detail: str = ""


class Result:
    """The result of :func:`tailrace.testing.run`.

    Attributes:
        status: ``completed``, ``failed``, ``cancelled``, or ``paused`` if the run waits for a
            signal that the script does not send.
        output: the output of a completed run.
        error: why it failed or was cancelled.
        state: the folded state.
        log: the events as the engine has them.
    """

    def __init__(
        self, definition: Definition, state: ExecutionState, log: Sequence[LoggedEvent]
    ) -> None:
        self._definition = definition
        self.log = log
        self.state = state
        self.status: str = state.status
        self.output: Any = state.output
        self.error = state.error

    def __repr__(self) -> str:
        steps = ", ".join(f"{name}: {step.status}" for name, step in self.steps.items())
        error = f", error={self.error!r}" if self.error else ""
        return f"<Result {self.status}{error} {{{steps}}}>"

    @cached_property
    def steps(self) -> dict[str, Step]:
        """The steps by id: those of all nodes, and the items of maps as ``node[0]``."""
        unbegun = "cancelled" if self.state.is_terminal else "pending"
        found = {node: Step(unbegun) for node in self._definition.nodes}
        for group in self._definition.groups.values():
            found |= {node: Step("skipped") for node in group}
        for step_id, step in self.state.steps.items():
            found[step_id] = Step(
                step.status, step.output, step.error, step.attempt, step.error_detail
            )
        return found

    @cached_property
    def events(self) -> list[Event]:
        """The events of the log, as clients receive them."""
        stored = msgspec.json.decode(msgspec.json.encode(self.log))
        return [Event(event["type"], event["data"], event["timestamp"]) for event in stored]

    @property
    def types(self) -> list[str]:
        """The types of the events, in order."""
        return [event.type for event in self.events]

    @property
    def seconds(self) -> float:
        """How long the run took, in skipped time."""
        first, last = self.log[0].timestamp, self.log[-1].timestamp
        return parse_timestamp(last) - parse_timestamp(first)
