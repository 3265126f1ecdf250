"""A stored execution, a position in its log, and the interface of an invariant of one log."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Final, Literal, NamedTuple

import msgspec

from tailrace_shared.execution.events import Event
from tailrace_shared.execution.items import split_item_id
from tailrace_shared.execution.state import ExecutionState, StepState
from tailrace_shared.execution.timestamps import parse_timestamp
from tailrace_shared.execution.transitions import SETTLED
from tailrace_shared.stores.log_records import Commit
from tailrace_shared.workflow.definition import Definition, MapWork, Node
from tailrace_shared.workflow.graph import Graph, graph_of

TOLERANCE_S: Final = 0.0015
"""Seconds of tolerance: timestamps are truncated to milliseconds."""

_NO_STEP: Final = StepState("")


class Record(NamedTuple):
    """A stored execution: its definition and its log."""

    definition: Definition
    commits: Sequence[Commit]

    @property
    def events(self) -> list[Event]:
        """All events, in order."""
        return [event for commit in self.commits for event in commit.events()]


class Reading:
    """The position in a log: the state before the current event, and the writer of its commit.

    Attributes:
        definition: the workflow.
        state: the folded events before the current one.
        writer: the writer of the current commit; empty for the API and for actors.
        sequence: the stream sequence of the current commit.
    """

    def __init__(self, definition: Definition) -> None:
        self.definition = definition
        self.state = ExecutionState()
        self.writer = ""
        self.sequence = 0

    @cached_property
    def graph(self) -> Graph:
        """The graph of the definition."""
        return graph_of(self.definition)

    def step(self, step_id: str) -> StepState:
        """Return a step as it is before the current event."""
        return self.state.steps.get(step_id, _NO_STEP)

    def node(self, step_id: str) -> Node:
        """Return the node of a step; for an item, the ``do`` of its map."""
        node_id, index = split_item_id(step_id)
        node = self.definition.all_nodes[node_id]
        node = node if index is None else map_work(node).do.node()
        return self.definition.with_defaults(node)

    def join(self, node_id: str) -> Literal["ready", "never", "open"]:  # noqa: PLR0911 - a table
        """Return whether a node's needs allow it to run: now, never, or not yet."""
        node = self.definition.all_nodes[node_id]
        needs = [self.step(need) for need in node.needs]
        settled = all(need.status in SETTLED for need in needs)
        succeeded = any(self._succeeded(need) for need in needs)
        match node.join:
            case "any":
                if succeeded or not needs:
                    return "ready"
                return "never" if settled else "open"
            case "all_done":
                return "ready" if settled else "open"
            case "all":
                if any(need.status in SETTLED and not self._satisfies(need) for need in needs):
                    return "never"
                return "ready" if settled else "open"
            case "all_success":
                if any(need.status in SETTLED and not self._succeeded(need) for need in needs):
                    return "never"
                return "ready" if settled else "open"

    def _succeeded(self, need: StepState) -> bool:
        return need.status == "success" or (
            need.status == "error" and self.goes_on_after(need.node_id)
        )

    def _satisfies(self, need: StepState) -> bool:
        return self._succeeded(need) or need.skipped_by_when

    def goes_on_after(self, node_id: str) -> bool:
        """Return whether the run goes on after a failure of a node."""
        return self.definition.all_nodes[node_id].on_error == "continue"

    def times_out(self, event: Event) -> Iterator[str]:
        """Yield a violation if the time limit of the workflow has not passed at an event."""
        limit, started_at = self.definition.timeout_seconds, self.state.started_at
        if limit is None or started_at is None:
            yield "the execution times out, but it has no time limit or has not started"
        else:
            yield from on_time(event, "the run", parse_timestamp(started_at) + limit)


def map_work(node: Node) -> MapWork:
    """Return the decoded ``with`` of a ``map``."""
    return msgspec.convert(node.parameters, MapWork)


class Rule(ABC):
    """An invariant of one log."""

    @abstractmethod
    def sees(self, event: Event, at: Reading) -> Iterator[str]:
        """Yield the violations of an event that is not folded yet."""


def on_time(event: Event, node_id: str, due: float | None) -> Iterator[str]:
    """Yield a violation if an event comes before its timer is due."""
    early = 0.0 if due is None else due - parse_timestamp(event.timestamp)
    if early > TOLERANCE_S:
        yield f"the timer of {node_id} comes {early:.3f} s early"


def waits_for(step: StepState, kind: str) -> bool:
    """Return whether a step waits for ``time`` or for a ``signal``."""
    return step.status == "waiting" and step.waiting is not None and step.waiting.wait == kind


def name_of(event: Event) -> str:
    """Return the type of an event as the log has it."""
    return str(type(event).__struct_config__.tag)
