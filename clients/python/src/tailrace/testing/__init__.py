"""Run workflows in-process, without NATS and without waiting.

The run uses the real scheduler, the real fold of events and the real node functions. Time skips: a
wait of thirty days takes a millisecond. See ``docs/recipes/testing.md``.
"""

from tailrace.testing.actions import (
    Action,
    after,
    approve,
    cancel,
    crash,
    pause,
    reject,
    resume,
    trigger,
)
from tailrace.testing.context import FakeContext, context
from tailrace.testing.replacements import takes
from tailrace.testing.result import Event, InvalidWorkflowError, Result, ScriptError, Step
from tailrace.testing.simulation import run

__all__ = [
    "Action",
    "Event",
    "FakeContext",
    "InvalidWorkflowError",
    "Result",
    "ScriptError",
    "Step",
    "after",
    "approve",
    "cancel",
    "context",
    "crash",
    "pause",
    "reject",
    "resume",
    "run",
    "takes",
    "trigger",
]
