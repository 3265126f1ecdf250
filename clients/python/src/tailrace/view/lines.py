"""Format events as lines of text, for logs and pipes."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from tailrace.stream import Event
from tailrace.view.board import counts_text, printable, seconds_text
from tailrace.view.model import SKIPPED, Run, message_of, signal_text


def event_line(event: Event) -> str:
    describe = _DETAILS.get(event.type, _reason)
    parts = (
        event.timestamp,
        f"{event.type:<19}",
        event.data.get("node_id", ""),
        printable(describe(event.data)),
    )
    return " ".join(filter(None, parts)).rstrip()


def summary(run: Run, now: float) -> str:
    """Return the final lines of a watched run, with its result and its id."""
    text = f"{run.status} in {seconds_text(run.elapsed(now))}: {counts_text(run.counts())}"
    error = [printable(run.error)] if run.error else []
    return "\n".join([text, *error, f"execution {run.execution_id}"])


def _started(data: Mapping[str, Any]) -> str:
    return f"attempt {data['attempt']}" if data.get("attempt", 1) > 1 else ""


def _ended(data: Mapping[str, Any]) -> str:
    if data.get("kept_from"):
        return f"kept from {data['kept_from']}"
    milliseconds = data.get("duration_ms")
    duration = "" if milliseconds is None else f"({seconds_text(milliseconds / 1000)}) "
    return f"{duration}{data.get('error') or ''}"


def _reason(data: Mapping[str, Any]) -> str:
    return str(data.get("reason") or "")


def _waiting(data: Mapping[str, Any]) -> str:
    until = f"until {data['until']}" if data.get("until") else ""
    match data.get("wait", "time"):
        case "signal":
            text = f"for {signal_text(data.get('reason', ''), data.get('triggers', ()))}"
        case "child":
            text = f"for {data.get('child_workflow_id')} {data.get('child_execution_id')}"
        case "actor":
            text = "for an actor"
        case _:
            text = ""
    return " ".join(filter(None, (text, until)))


def _command(data: Mapping[str, Any]) -> str:
    words = [data.get("command"), data.get("decision") or data.get("procedure")]
    words += [data.get("reason"), f"by {data['actor']}" if data.get("actor") else ""]
    return " ".join(filter(None, words))


_DETAILS: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = {
    "execution:failed": message_of,  # the line begins with the step
    "execution:finishing": lambda data: f"{data.get('group')}",
    "step:started": _started,
    "step:completed": _ended,
    "step:failed": _ended,
    "step:retrying": lambda data: f"attempt {data.get('attempt')}: {data.get('error')}",
    "step:progress": lambda data: f"{data.get('percent', 0):.0f}% {data.get('message', '')}",
    "step:log": lambda data: f"{data.get('level')}: {data.get('message')}",
    "step:skipped": lambda data: SKIPPED.get(data.get("reason", ""), ""),
    "step:waiting": _waiting,
    "step:expanded": lambda data: f"{len(data.get('items', ()))} items",
    "execution:resumed": lambda data: (
        f"from {data['resumed_from']}" if data.get("resumed_from") else ""
    ),
    "command:requested": _command,
}
