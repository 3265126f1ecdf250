"""The node type ``delay``: wait for a time without occupying a worker."""

from datetime import datetime

from tailrace_shared.duration import Duration
from tailrace_worker.nodes.node import NodeFailedError, Wait, node


@node("delay", instant=True)
def delay(duration: str | None = None, until: str | None = None) -> Wait:
    """Wait for ``duration``, or ``until`` a time in RFC 3339 format."""
    try:
        if duration is not None:
            return Wait(seconds=Duration.parse(str(duration)))
        due = datetime.fromisoformat(str(until))
    except ValueError as error:
        raise NodeFailedError(str(error), retryable=False) from None
    if due.tzinfo is None:
        raise NodeFailedError(f"until: {until!r} has no time zone", retryable=False)
    return Wait(due.timestamp())
