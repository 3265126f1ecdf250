"""Return values of the shipped nodes whose steps wait for a signal or a child run."""

from dataclasses import dataclass, field
from typing import Any

from tailrace_shared.execution.events import OnReject


@dataclass(frozen=True, slots=True)
class ForSignal:
    """Lets the step wait for a decision or a trigger; the fields are those of ``StepWait``."""

    reason: str = ""
    triggers: list[str] = field(default_factory=list)
    match: str | None = None
    lookback: float = 0.0
    form: Any = None
    on_reject: OnReject = "continue"


@dataclass(frozen=True, slots=True)
class ForChild:
    """Lets the step start a child run and wait for its end."""

    workflow_id: str
    input: Any
