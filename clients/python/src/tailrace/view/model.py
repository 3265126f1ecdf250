"""What is known of a run, folded from its events.

Pure: no clock and no I/O. Whoever draws says what time it is. Events that a newer API adds are
passed over, and nodes that the graph does not name (it may be of another version of the
workflow) are taken in as they appear.
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
    """What is known of one node.

    Attributes:
        started_at: when the current attempt began, in seconds since the epoch.
        duration: how long the last attempt ran, in seconds, once it has ended.
        due: when a waiting or retrying step goes on, in seconds since the epoch.
        wait: while it waits, for what kind of thing: ``time``, ``signal``, ``child``, ``actor``.
        waits_for: that in words.
        count: of a map, how many items it has.
        items: of a map, what is known of those items that have begun.
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
        """Whether it waits for somebody's decision, or for a trigger."""
        return self.status == "waiting" and self.wait == "signal"

    def item(self, item_id: str) -> "Step":
        """Return what is known of an item, adding it if it is new."""
        item = self.items.get(item_id)
        if item is None:
            item = self.items[item_id] = Step(item_id, item_id)
        return item

    def count_items(self) -> None:
        """Tell by the items how far the map is."""
        statuses = Counter(item.status for item in self.items.values())
        settled = sum(statuses[status] for status in SETTLED)
        count = max(self.count or 0, len(self.items))
        if count and self.status == "running":
            self.percent = 100 * settled / count
            failed = f", {statuses['error']} failed" if statuses["error"] else ""
            self.message = f"{settled}/{count}{failed}"

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
        is_held: whether it is paused because somebody asked for that.
        expected_end: when it will end by what Tailrace has told, in seconds since the epoch.
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
        """Return what is known of a node, adding it if it is new."""
        step = self.steps.get(node_id)
        if step is None:
            step = self.steps[node_id] = Step(node_id, node_id)
        return step

    def waiting(self) -> list[Step]:
        """Return the steps that wait for a signal."""
        return [step for step in self.steps.values() if step.awaits_signal]

    def apply(self, event: Event) -> None:
        """Take one event into account."""
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
        """Return how many steps are in each status."""
        return Counter(step.status for step in self.steps.values())

    def progress(self) -> float:
        """Return which share of the steps is done, running ones by what they report.

        As the API counts it: what was cancelled is settled, but was not done.
        """
        if self.status == "completed" or not self.steps:
            return float(self.status == "completed")
        return sum(map(_share, self.steps.values())) / len(self.steps)

    def elapsed(self, now: float) -> float:
        """Return how long the run has existed, or did until it ended."""
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
                # After a pause nothing is true any more of what was told before.
                self.expected_end = None
                self._expect(event)
            case "paused":
                self.status = "paused"
                self.is_held = bool(event.data.get("requested"))
            case "completed" | "failed" | "cancelled" as status:
                self.status = status
                self.error = event.data.get("error_message") or event.data.get("reason") or ""
        if self.status in ENDED:
            self.finished_at = seconds_of(event.timestamp)
            for step in self.steps.values():
                for each in (step, *step.items.values()):
                    if each.status in ACTIVE:
                        each.status = "cancelled"

    def _expect(self, event: Event) -> None:
        left, told_at = _milliseconds(event.data.get("eta_ms")), seconds_of(event.timestamp)
        if left is not None and told_at is not None:
            self.expected_end = told_at + left

    def _forget(self, data: Mapping[str, Any]) -> None:
        """Begin anew, because the stream does."""
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


SKIPPED: Final = {
    "when": "not wanted by its `when`",
    "needs": "what it needs did not succeed",
}
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
    """Say what a step waits for that waits for a signal."""
    return " or ".join([reason or "a decision", *triggers])


def _node_of(step_id: str) -> str:
    """Return the node of a step, which for ``pages[3]`` is the map ``pages``."""
    return step_id.partition("[")[0]


def seconds_of(timestamp: str | None) -> float | None:
    """Return an RFC 3339 timestamp as seconds since the epoch."""
    return datetime.fromisoformat(timestamp).timestamp() if timestamp else None


def _milliseconds(value: float | None) -> float | None:
    return None if value is None else value / 1000
