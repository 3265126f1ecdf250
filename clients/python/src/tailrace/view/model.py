"""What is known of a run, folded from its events.

Pure: no clock and no I/O. Whoever draws says what time it is. Events that a newer API adds are
passed over, and nodes that the graph does not name (it may be of another version of the
workflow) are taken in as they appear.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from tailrace.stream import RESET, Event

ACTIVE: Final = frozenset({"running", "waiting", "retrying"})
SETTLED: Final = frozenset({"success", "error", "skipped", "cancelled"})
RUN_STATUSES: Final = ("queued", "running", "paused", "completed", "failed", "cancelled")
ENDED: Final = frozenset({"completed", "failed", "cancelled"})


class Step(msgspec.Struct):
    """What is known of one node.

    Attributes:
        started_at: when the current attempt began, in seconds since the epoch.
        duration: how long the last attempt ran, in seconds, once it has ended.
        due: when a waiting or retrying step goes on, in seconds since the epoch.
    """

    id: str
    name: str
    type: str = ""
    needs: list[str] = []
    status: str = "pending"
    attempt: int = 1
    started_at: float | None = None
    duration: float | None = None
    due: float | None = None
    percent: float | None = None
    message: str = ""
    error: str = ""

    def elapsed(self, now: float) -> float | None:
        """Return how long the last attempt ran, or has been running; None if none is under way."""
        if self.status == "retrying":
            return None
        if self.duration is not None or self.started_at is None:
            return self.duration
        return max(now - self.started_at, 0.0)


class Run(msgspec.Struct):
    """What is known of one run.

    Attributes:
        layers: ids of the nodes, those that may run beside each other together.
        expired: whether the beginning of its log is gone, so that steps may be missing here.
    """

    execution_id: str
    workflow: str = ""
    status: str = "queued"
    queued_at: float | None = None
    finished_at: float | None = None
    error: str = ""
    expired: bool = False
    steps: dict[str, Step] = {}
    layers: list[list[str]] = []

    def add_graph(self, graph: Mapping[str, Any]) -> None:
        """Take in a workflow's graph, as the API gives it."""
        for node in graph["nodes"]:
            step = self.step(node["id"])
            step.name, step.type = node.get("name") or step.id, node["type"]
        for edge in graph["edges"]:
            self.step(edge["target"]).needs.append(edge["source"])
        self.layers = [list(layer) for layer in graph["layers"]]

    def add_document(self, document: Mapping[str, Any]) -> None:
        """Take in a run document: the same as its events would tell, without their order."""
        self.workflow = document["workflow_id"]
        self.status = document["status"]
        self.queued_at = seconds_of(document["created_at"])
        self.finished_at = seconds_of(document.get("finished_at"))
        self.error = document.get("error") or ""
        for seen in document["steps"]:
            step = self.step(seen["node_id"])
            step.name = seen.get("name") or step.id
            step.type = seen["node_type"] or step.type
            step.status = seen["status"]
            step.attempt = seen.get("attempt") or 1
            step.started_at = seconds_of(seen.get("started_at"))
            step.duration = _milliseconds(seen.get("duration_ms"))
            step.error = seen.get("error") or ""

    def step(self, node_id: str) -> Step:
        """Return what is known of a node, adding it if it is new."""
        step = self.steps.get(node_id)
        if step is None:
            step = self.steps[node_id] = Step(node_id, node_id)
        return step

    def apply(self, event: Event) -> None:
        """Take one event into account."""
        if event.type == RESET:
            self._forget(event.data)
        elif event.type.startswith("step:"):
            if change := _STEP_EVENTS.get(event.type):
                change(self.step(event.data["node_id"]), event.data)
        elif event.type.startswith("execution:"):
            self._apply_to_run(event)

    def counts(self) -> Counter[str]:
        """Return how many steps are in each status."""
        return Counter(step.status for step in self.steps.values())

    def progress(self) -> float:
        """Return which share of the steps has settled, running ones by what they report."""
        if self.status == "completed" or not self.steps:
            return float(self.status == "completed")
        done = sum(
            1.0 if step.status in SETTLED else (step.percent or 0.0) / 100
            for step in self.steps.values()
        )
        return done / len(self.steps)

    def elapsed(self, now: float) -> float:
        """Return how long the run has existed, or did until it ended."""
        if self.queued_at is None:
            return 0.0
        return max((self.finished_at or now) - self.queued_at, 0.0)

    def _apply_to_run(self, event: Event) -> None:
        match event.type.removeprefix("execution:"):
            case "queued":
                self.queued_at = seconds_of(event.timestamp)
                self.workflow = event.data.get("workflow_id", self.workflow)
            case "started" | "resumed":
                self.status = "running"
            case "completed" | "failed" | "cancelled" | "paused" as status:
                self.status = status
                self.error = event.data.get("error_message") or event.data.get("reason") or ""
        if self.status in ENDED:
            self.finished_at = seconds_of(event.timestamp)
            for step in self.steps.values():
                if step.status in ACTIVE:
                    step.status = "cancelled"

    def _forget(self, data: Mapping[str, Any]) -> None:
        """Begin anew, because the stream does."""
        self.status, self.error = "queued", ""
        self.expired = data.get("reason") == "expired"
        for step in self.steps.values():
            fresh = Step(step.id, step.name, step.type, step.needs)
            self.steps[step.id] = fresh


def _started(step: Step, data: Mapping[str, Any]) -> None:
    step.status = "running"
    step.type = data.get("node_type", step.type)
    step.name = data.get("name") or step.name
    step.attempt = data.get("attempt", 1)
    step.started_at = seconds_of(data.get("started_at"))
    step.duration = step.due = step.percent = None
    step.message = step.error = ""


def _completed(step: Step, data: Mapping[str, Any]) -> None:
    step.status = "success"
    step.duration = _milliseconds(data.get("duration_ms"))
    step.due = None


def _failed(step: Step, data: Mapping[str, Any]) -> None:
    step.status = "error"
    step.duration = _milliseconds(data.get("duration_ms"))
    step.error = str(data.get("error", ""))


def _retrying(step: Step, data: Mapping[str, Any]) -> None:
    step.status = "retrying"
    step.error = str(data.get("error", ""))
    step.due = seconds_of(data.get("retry_at"))
    step.percent = None


def _skipped(step: Step, data: Mapping[str, Any]) -> None:
    step.status = "skipped"
    step.message = _SKIPPED.get(data.get("reason", ""), "")


def _waiting(step: Step, data: Mapping[str, Any]) -> None:
    step.status = "waiting"
    step.due = seconds_of(data.get("until"))


def _progressed(step: Step, data: Mapping[str, Any]) -> None:
    step.percent = min(max(float(data.get("percent", 0.0)), 0.0), 100.0)
    step.message = data.get("message", "")


_SKIPPED: Final = {
    "when": "not wanted by its `when`",
    "needs": "what it needs did not succeed",
}
_STEP_EVENTS: Final[Mapping[str, Callable[[Step, Mapping[str, Any]], None]]] = {
    "step:started": _started,
    "step:completed": _completed,
    "step:failed": _failed,
    "step:retrying": _retrying,
    "step:skipped": _skipped,
    "step:waiting": _waiting,
    "step:progress": _progressed,
}


def seconds_of(timestamp: str | None) -> float | None:
    """Return an RFC 3339 timestamp as seconds since the epoch."""
    return datetime.fromisoformat(timestamp).timestamp() if timestamp else None


def _milliseconds(value: float | None) -> float | None:
    return None if value is None else value / 1000
