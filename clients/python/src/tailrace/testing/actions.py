"""The actions of a script: decisions, triggers, commands and crashes."""

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from tailrace_shared.duration import Duration

Kind = Literal["resolve", "trigger", "cancel", "pause", "resume", "crash"]


@dataclass(frozen=True, slots=True)
class Action:
    """Something that a caller does, or that happens to a worker.

    Attributes:
        kind: what happens.
        node: the step that it is for.
        at: seconds after the start of the run; None for as soon as it is possible.
        fields: further values, by kind.
    """

    kind: Kind
    node: str = ""
    at: float | None = None
    fields: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.fields.get('decision', self.kind)} {self.node}".strip()


def after(duration: str, action: Action) -> Action:
    """Let an action happen at a time after the start of the run, for example ``23h``.

    Raises:
        ValueError: the duration is invalid.
    """
    return replace(action, at=float(Duration.parse(duration)))


def approve(node: str, data: Any = None, by: str = "") -> Action:
    """Approve a waiting step, with the data of its form."""
    return Action("resolve", node, fields={"decision": "approved", "data": data, "actor": by})


def reject(node: str, data: Any = None, by: str = "") -> Action:
    """Reject a waiting step."""
    return Action("resolve", node, fields={"decision": "rejected", "data": data, "actor": by})


def trigger(procedure: str, data: Any = None) -> Action:
    """Send a trigger to all steps that wait for it."""
    return Action("trigger", fields={"procedure": procedure, "data": {} if data is None else data})


def cancel(reason: str = "", by: str = "") -> Action:
    """Cancel the run."""
    return Action("cancel", fields={"reason": reason, "actor": by})


def pause(by: str = "") -> Action:
    """Pause the run."""
    return Action("pause", fields={"actor": by})


def resume(by: str = "") -> Action:
    """Resume a run that was paused by :func:`pause`."""
    return Action("resume", fields={"actor": by})


def crash(node: str, times: int = 1) -> Action:
    """Let the worker die while it runs a step, before the step's function is called.

    Args:
        node: the step.
        times: how many of its first attempts are lost.
    """
    return Action("crash", node, fields={"times": times})
