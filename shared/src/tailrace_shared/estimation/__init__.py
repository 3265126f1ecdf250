"""Run history and estimates of the remaining time. Pure.

The rest of the code uses two operations: ``RunDelta.record_run`` adds a finished run to the
history of its workflow, and ``Estimator.remaining_seconds`` estimates the rest of a live one.
The other names are the stored history that connects them.
"""

from tailrace_shared.estimation.estimator import Estimator
from tailrace_shared.estimation.run_delta import RunDelta
from tailrace_shared.estimation.run_history import (
    MINUTES,
    FailureCounts,
    NodeHistory,
    RunHistory,
    decode_nodes,
    decode_runs,
    encode_nodes,
    encode_runs,
    items_key,
)
from tailrace_shared.estimation.sketch import Sketch, count_of

__all__ = [
    "MINUTES",
    "Estimator",
    "FailureCounts",
    "NodeHistory",
    "RunDelta",
    "RunHistory",
    "Sketch",
    "count_of",
    "decode_nodes",
    "decode_runs",
    "encode_nodes",
    "encode_runs",
    "items_key",
]
