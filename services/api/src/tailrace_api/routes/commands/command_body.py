"""Fields of command bodies; ``RefusedError`` (422) for an invalid one."""

from typing import Annotated, Any, Final, Literal

from msgspec import Meta

from tailrace_api.web.problems import unprocessable
from tailrace_shared.commands.execution_commands import Decision
from tailrace_shared.workflow.problem_report import nearest

_MAX_REASON_CHARS: Final = 1000
_MAX_ID_CHARS: Final = 64
_DECISIONS: Final = ("approved", "rejected")
_MAX_VERSION: Final = 2**63 - 1
MAX_STEP_ID_CHARS: Final = 80
"""Maximum length of the id of a step, which may include the index of an item."""

NodeId = Annotated[str, Meta(min_length=1, max_length=_MAX_ID_CHARS)]
StepId = Annotated[str, Meta(min_length=1, max_length=MAX_STEP_ID_CHARS)]
Version = Annotated[int, Meta(ge=1, le=_MAX_VERSION)] | Literal["latest"]
ReasonText = Annotated[str, Meta(max_length=_MAX_REASON_CHARS)]
DecisionText = Literal["approved", "rejected"]


def reason_of(body: dict[str, Any]) -> str:
    """Return the reason for a command; empty if none is given."""
    reason = body.get("reason")
    if reason is None:
        return ""
    if not isinstance(reason, str) or len(reason) > _MAX_REASON_CHARS:
        raise unprocessable(
            "/reason", f"reason must be a string of at most {_MAX_REASON_CHARS} characters"
        )
    return reason


def decision_of(body: dict[str, Any], node_field: str = "node_id") -> Decision | None:
    """Return the decision in a body; None if it has neither node, decision nor data."""
    node_id, decision, data = node_of(body, node_field), body.get("decision"), body.get("data")
    if node_id is None and decision is None and data is None:
        return None
    if decision is not None and decision not in _DECISIONS:
        near = nearest(decision, _DECISIONS) if isinstance(decision, str) else ""
        raise unprocessable("/decision", f"decision must be one of {', '.join(_DECISIONS)}{near}")
    return Decision(node_id, decision or "approved", data)


def node_of(body: dict[str, Any], field: str, limit: int = _MAX_ID_CHARS) -> str | None:
    """Return the node id in a field; None if it is absent."""
    value = body.get(field)
    if value is not None and not (isinstance(value, str) and 0 < len(value) <= limit):
        raise unprocessable(f"/{field}", f"{field} must be the id of a node")
    return value


def flag_of(body: dict[str, Any], field: str) -> bool:
    """Return the truth value in a field; False if it is absent."""
    value = body.get(field, False)
    if not isinstance(value, bool):
        raise unprocessable(f"/{field}", f"{field} must be true or false")
    return value


def version_of(body: dict[str, Any]) -> int | Literal["latest"] | None:
    """Return the version of a workflow in a body; None if it is absent."""
    value = body.get("version")
    if value is None or value == "latest":
        return value
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= _MAX_VERSION:
        raise unprocessable("/version", "version must be a number, or 'latest'")
    return value
