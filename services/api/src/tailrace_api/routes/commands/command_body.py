"""What the bodies of commands hold, checked field by field."""

from typing import Annotated, Any, Final, Literal

from msgspec import Meta

from tailrace_api.web.problems import unprocessable
from tailrace_shared.commands.execution_commands import Decision
from tailrace_shared.workflow.problem_report import nearest

_LONGEST_REASON: Final = 1000
_LONGEST_ID: Final = 64
_DECISIONS: Final = ("approved", "rejected")

NodeId = Annotated[str, Meta(min_length=1, max_length=_LONGEST_ID)]
ReasonText = Annotated[str, Meta(max_length=_LONGEST_REASON)]
DecisionText = Literal["approved", "rejected"]


def reason_of(body: dict[str, Any]) -> str:
    """Return why an execution is to stop; empty if nobody says.

    Raises:
        RefusedError: it is no text, or a long one.
    """
    reason = body.get("reason")
    if reason is None:
        return ""
    if not isinstance(reason, str) or len(reason) > _LONGEST_REASON:
        raise unprocessable("/reason", f"reason is a text of at most {_LONGEST_REASON} characters")
    return reason


def decision_of(body: dict[str, Any], node_field: str = "node_id") -> Decision | None:
    """Return the signal that a body means; None if it names neither step, decision nor data.

    Raises:
        RefusedError: one of these is none.
    """
    node_id, decision, data = node_of(body, node_field), body.get("decision"), body.get("data")
    if node_id is None and decision is None and data is None:
        return None
    if decision is not None and decision not in _DECISIONS:
        near = nearest(decision, _DECISIONS) if isinstance(decision, str) else ""
        raise unprocessable("/decision", f"decision is one of {', '.join(_DECISIONS)}{near}")
    return Decision(node_id, decision or "approved", data)


def node_of(body: dict[str, Any], field: str) -> str | None:
    """Return the node that a field names; None if it does not.

    Raises:
        RefusedError: it cannot be the id of a node.
    """
    value = body.get(field)
    if value is not None and not (isinstance(value, str) and 0 < len(value) <= _LONGEST_ID):
        raise unprocessable(f"/{field}", f"{field} is the id of a node")
    return value
