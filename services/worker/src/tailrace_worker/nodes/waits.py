"""What a shipped node returns to have its step wait for something else than a time."""

from dataclasses import dataclass, field
from typing import Any

from tailrace_shared.execution.events import OnReject


@dataclass(frozen=True, slots=True)
class ForSignal:
    """The step waits for a decision or a trigger; fields as in ``StepWait``."""

    reason: str = ""
    triggers: list[str] = field(default_factory=list)
    match: str | None = None
    lookback: float = 0.0
    form: Any = None
    on_reject: OnReject = "continue"


@dataclass(frozen=True, slots=True)
class ForChild:
    """The step waits for the end of a run that it starts."""

    workflow_id: str
    input: Any
