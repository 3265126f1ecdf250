"""``delay``: waits for a time, holding no worker."""

from datetime import datetime

from tailrace_shared.duration import Duration
from tailrace_worker.nodes.node import NodeFailedError, Wait, node


@node("delay", instant=True)
def delay(duration: str | None = None, until: str | None = None) -> Wait:
    """Wait for ``duration``, or until a time given as RFC 3339."""
    try:
        if duration is not None:
            return Wait(seconds=Duration.parse(str(duration)))
        wanted = datetime.fromisoformat(str(until))
    except ValueError as error:
        raise NodeFailedError(str(error), retryable=False) from None
    if wanted.tzinfo is None:
        raise NodeFailedError(f"until: {until!r} has no time zone", retryable=False)
    return Wait(wanted.timestamp())
