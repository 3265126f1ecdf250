"""``await``: waits for a decision or a trigger, holding no worker."""

from typing import Any, Final

from tailrace_shared.duration import Duration
from tailrace_worker.nodes.node import NodeFailedError, node
from tailrace_worker.nodes.waits import ForSignal

# It is repeated in events and lists, where an output that it names would be too large.
_REASON_CHARACTERS: Final = 1024


@node("await", instant=True)
def await_(
    reason: str = "",
    triggers: list[str] | None = None,
    match: str | None = None,
    lookback: str | None = None,
    form: Any = None,
    on_reject: str = "continue",
) -> ForSignal:
    """Wait until somebody decides, or an event comes that ``match`` is true of."""
    try:
        # A plain float: the log holds no durations.
        seconds = 0.0 if lookback is None else float(Duration.parse(lookback))
    except ValueError as error:
        raise NodeFailedError(f"lookback: {error}", retryable=False) from None
    return ForSignal(
        reason=str(reason)[:_REASON_CHARACTERS],
        triggers=[str(trigger) for trigger in triggers or []],
        match=match,
        lookback=seconds,
        form=form,
        on_reject="fail" if on_reject == "fail" else "continue",
    )
