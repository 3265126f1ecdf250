"""The state of a run, folded from its events.

Pure: no clock and no I/O; callers pass the time. Unknown events of a newer API are ignored. Nodes
that are missing in the graph (which may be of another version of the workflow) are added when they
appear.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from tailrace.stream import RESET, Event

ACTIVE: Final = frozenset({"running", "waiting", "retrying"})
DONE: Final = frozenset({"success", "error", "skipped"})
SETTLED: Final = DONE | {"cancelled"}
RUN_STATUSES: Final = ("queued", "running", "paused", "completed", "failed", "cancelled")
ENDED: Final = frozenset({"completed", "failed", "cancelled"})


class Step(msgspec.Struct):
    """The state of one step.

    Attributes:
        started_at: start of the current attempt, in seconds since the epoch.
        duration: duration of the last attempt, in seconds, once it has ended.
        due: when a waiting or retrying step continues, in seconds since the epoch.
        wait: kind of the wait: ``time``, ``signal``, ``child`` or ``actor``.
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
    wait: str = ""
    waits_for: str = ""
    count: int | None = None
    items: dict[str, "Step"] = {}

    @property
    def awaits_signal(self) -> bool:
        """Whether the step waits for a decision or a trigger."""
        return self.status == "waiting" and self.wait == "signal"

    def item(self, item_id: str) -> "Step":
        """Return an item, and add it if it is new."""
        item = self.items.get(item_id)
        if item is None:
            item = self.items[item_id] = Step(item_id, item_id)
        return item

    def count_items(self) -> None:
        statuses = Counter(item.status for item in self.items.values())
        settled = sum(statuses[status] for status in SETTLED)
        count = max(self.count or 0, len(self.items))
        if count and self.status == "running":
            self.percent = 100 * settled / count
            failed = f", {statuses['error']} failed" if statuses["error"] else ""
            self.message = f"{settled}/{count}{failed}"

    def elapsed(self, now: float) -> float | None:
        """Return the duration of the last or current attempt in seconds, or None."""
        if self.status == "retrying":
            return None
        if self.duration is not None or self.started_at is None:
            return self.duration
        return max(now - self.started_at, 0.0)


class Run(msgspec.Struct):
    """The state of one run.

    Attributes:
        expired: whether the beginning of the log has expired, so steps may be missing.
        is_held: whether a user has paused the run.
        expected_end: end of the run by the server's estimate, in seconds since the epoch.
    """

    execution_id: str
    workflow: str = ""
    status: str = "queued"
    queued_at: float | None = None
    finished_at: float | None = None
    error: str = ""
    expired: bool = False
    is_held: bool = False
    expected_end: float | None = None
    steps: dict[str, Step] = {}
    layers: list[list[str]] = []

    def add_graph(self, graph: Mapping[str, Any]) -> None:
        for node in graph["nodes"]:
            step = self.step(node["id"])
            step.name, step.type = node.get("name") or step.id, node["type"]
        for edge in graph["edges"]:
            self.step(edge["target"]).needs.append(edge["source"])
        self.layers = [list(layer) for layer in graph["layers"]]

    def add_document(self, document: Mapping[str, Any]) -> None:
        """Set the state from a run document instead of events."""
        self.workflow = document["workflow_id"]
        self.status = document["status"]
        self.queued_at = seconds_of(document["created_at"])
        self.finished_at = seconds_of(document.get("finished_at"))
        self.error = document.get("error") or ""
        for seen in document["steps"]:
            step = self._step_or_item(seen["node_id"])
            step.name = seen.get("name") or step.id
            step.type = seen["node_type"] or step.type
            step.status = seen["status"]
            step.attempt = seen.get("attempt") or 1
            step.started_at = seconds_of(seen.get("started_at"))
            step.duration = _milliseconds(seen.get("duration_ms"))
            step.error = seen.get("error") or ""
            step.count = seen.get("items")
            if waiting := seen.get("waiting_for"):
                _wait(step, waiting.get("kind", "time"), waiting)
        for step in self.steps.values():
            step.count_items()
        self.is_held = self.status == "paused" and bool(document.get("held"))

    def step(self, node_id: str) -> Step:
        step = self.steps.get(node_id)
        if step is None:
            step = self.steps[node_id] = Step(node_id, node_id)
        return step

    def waiting(self) -> list[Step]:
        return [step for step in self.steps.values() if step.awaits_signal]

    def apply(self, event: Event) -> None:
        if event.type == RESET:
            self._forget(event.data)
        elif event.type.startswith("step:"):
            self._expect(event)
            if change := _STEP_EVENTS.get(event.type):
                change(self._step_or_item(event.data["node_id"]), event.data)
                self.step(_node_of(event.data["node_id"])).count_items()
        elif event.type.startswith("execution:"):
            self._apply_to_run(event)

    def counts(self) -> Counter[str]:
        return Counter(step.status for step in self.steps.values())

    def progress(self) -> float:
        """Return the share of finished work, from 0 to 1; running steps count by their reports.

        As in the API, a cancelled step is settled but not done.
        """
        if self.status == "completed" or not self.steps:
            return float(self.status == "completed")
        return sum(map(_share, self.steps.values())) / len(self.steps)

    def elapsed(self, now: float) -> float:
        """Return the age of the run in seconds, or its duration if it has ended."""
        if self.queued_at is None:
            return 0.0
        return max((self.finished_at or now) - self.queued_at, 0.0)

    def _step_or_item(self, step_id: str) -> Step:
        node = self.step(_node_of(step_id))
        return node if node.id == step_id else node.item(step_id)

    def _apply_to_run(self, event: Event) -> None:
        match event.type.removeprefix("execution:"):
            case "queued":
                self.queued_at = seconds_of(event.timestamp)
                self.workflow = event.data.get("workflow_id", self.workflow)
            case "started" | "resumed":
                self.status, self.is_held = "running", False
                # The estimate from before a pause is no longer valid.
                self.expected_end = None
                self._expect(event)
            case "paused":
                self.status = "paused"
                self.is_held = bool(event.data.get("requested"))
            case "completed" | "failed" | "cancelled" as status:
                self.status = status
                self.error = reason_of(event.data)
        if self.status in ENDED:
            self.finished_at = seconds_of(event.timestamp)
        if self.status in ENDED or event.type == "execution:finishing":
            for step in self.steps.values():
                for each in (step, *step.items.values()):
                    if each.status in ACTIVE:
                        each.status = "cancelled"

    def _expect(self, event: Event) -> None:
        left, reported_at = _milliseconds(event.data.get("eta_ms")), seconds_of(event.timestamp)
        if left is not None and reported_at is not None:
            self.expected_end = reported_at + left

    def _forget(self, data: Mapping[str, Any]) -> None:
        """Reset the run, because the stream starts again from the beginning."""
        self.status, self.error, self.is_held = "queued", "", False
        self.expected_end = None
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
    step.message = step.error = step.wait = step.waits_for = ""


def _expanded(step: Step, data: Mapping[str, Any]) -> None:
    step.count = len(data.get("items", ()))


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


def _share(step: Step) -> float:
    if step.status in SETTLED:
        return float(step.status in DONE)
    return (step.percent or 0.0) / 100


def _skipped(step: Step, data: Mapping[str, Any]) -> None:
    step.status = "skipped"
    step.message = SKIPPED.get(data.get("reason", ""), "")


def _waiting(step: Step, data: Mapping[str, Any]) -> None:
    step.status = "waiting"
    step.type = data.get("node_type", step.type)
    _wait(step, data.get("wait", "time"), data)


def _wait(step: Step, kind: str, data: Mapping[str, Any]) -> None:
    step.due = seconds_of(data.get("until"))
    step.wait = kind
    match kind:
        case "signal":
            step.waits_for = signal_text(data.get("reason", ""), data.get("triggers", ()))
        case "child":
            run = data.get("child_workflow_id") or "a run"
            step.waits_for = f"{run} {data.get('child_execution_id', '')}".rstrip()
        case "actor":
            step.waits_for = "an actor"


def _progressed(step: Step, data: Mapping[str, Any]) -> None:
    step.percent = min(max(float(data.get("percent", 0.0)), 0.0), 100.0)
    step.message = data.get("message", "")


SKIPPED: Final = {"when": "its `when` is false", "needs": "a needed step did not succeed"}
_STEP_EVENTS: Final[Mapping[str, Callable[[Step, Mapping[str, Any]], None]]] = {
    "step:started": _started,
    "step:expanded": _expanded,
    "step:completed": _completed,
    "step:failed": _failed,
    "step:retrying": _retrying,
    "step:skipped": _skipped,
    "step:waiting": _waiting,
    "step:progress": _progressed,
}


def signal_text(reason: str, triggers: Iterable[str]) -> str:
    return " or ".join([reason or "a decision", *triggers])


def _node_of(step_id: str) -> str:
    """Return the node of a step, which for ``pages[3]`` is the map ``pages``."""
    return step_id.partition("[")[0]


def seconds_of(timestamp: str | None) -> float | None:
    return datetime.fromisoformat(timestamp).timestamp() if timestamp else None


def _milliseconds(value: float | None) -> float | None:
    return None if value is None else value / 1000


def message_of(data: Mapping[str, Any]) -> str:
    """Return why an execution has ended."""
    message = str(data.get("error_message") or data.get("reason") or "")
    # Workers of earlier versions put the step that failed into the message.
    return message.removeprefix(f"{data.get('node_id')}: ")


def reason_of(data: Mapping[str, Any]) -> str:
    """Return why an execution has ended, with the step that failed."""
    message, node = message_of(data), data.get("node_id")
    return f"{node}: {message}" if node else message
