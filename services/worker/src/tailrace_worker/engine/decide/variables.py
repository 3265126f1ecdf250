"""The variables that a wait for a signal shows of its execution, beside the input. Pure.

A person who decides sees the outputs of the steps that have succeeded so far. They are recorded
with the wait, so that all streams and lists show the same. So they are few and small, and sensitive
values are masked: nothing computes with them.
"""

from itertools import islice
from typing import Any, Final

import msgspec

from tailrace_shared.execution.items import split_item_id
from tailrace_shared.execution.state import ExecutionState
from tailrace_shared.redact.masking import mask_value

MAX_BYTES: Final = 4096
"""The limit of all outputs of a wait, as JSON. Those of the newest steps come first."""

_MAX_STEPS: Final = 64
# A map of awaits has many waits: bounds what each of them encodes.
_MAX_ENCODED_BYTES: Final = 64 * 1024

_encode: Final = msgspec.json.Encoder().encode


def variables_of(state: ExecutionState) -> dict[str, Any]:
    """Return the small outputs of the newest steps that have succeeded, by node id."""
    found: dict[str, Any] = {}
    room, effort = MAX_BYTES, _MAX_ENCODED_BYTES
    for step in islice(reversed(state.steps.values()), _MAX_STEPS):
        is_item = split_item_id(step.node_id)[1] is not None
        if is_item or step.status != "success" or step.output_ref or step.output_omitted:
            continue
        if step.output in (None, msgspec.UNSET):
            continue
        size = len(_encode(step.output))
        effort -= size
        if size <= room:
            room -= size
            found[step.node_id] = mask_value(step.output, step.sensitive)
        if effort < 0:
            break
    return dict(reversed(found.items()))
