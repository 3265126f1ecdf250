"""The node type ``await``: wait for a decision or a trigger without occupying a worker."""

from typing import Any, Final

from tailrace_shared.duration import Duration
from tailrace_shared.json_encoding import json_text
from tailrace_worker.nodes.node import NodeFailedError, node
from tailrace_worker.nodes.waits import ForSignal

# Events and lists repeat the reason, and an expression may put a large output into it.
_REASON_CHARACTERS: Final = 1024


@node("await", instant=True)
def await_(
    reason: Any = "",
    triggers: list[str] | None = None,
    match: str | None = None,
    lookback: str | None = None,
    form: Any = None,
    on_reject: str = "continue",
) -> ForSignal:
    """Wait until a person decides, or a trigger arrives for which ``match`` is true."""
    try:
        # The log stores seconds as a plain number.
        seconds = 0.0 if lookback is None else float(Duration.parse(lookback))
    except ValueError as error:
        raise NodeFailedError(f"lookback: {error}", retryable=False) from None
    return ForSignal(
        reason=("" if reason is None else json_text(reason))[:_REASON_CHARACTERS],
        triggers=[str(trigger) for trigger in triggers or []],
        match=match,
        lookback=seconds,
        form=form,
        on_reject="fail" if on_reject == "fail" else "continue",
    )
