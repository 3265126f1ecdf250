"""How a drive ended."""

from dataclasses import dataclass
from enum import Enum


class End(Enum):
    """Why a drive ended."""

    FINISHED = "the execution is terminal"
    WAITING = "nothing to do before a timer"
    ASKED = "nothing to do, but somebody has asked for another look meanwhile"
    HANDED_OVER = "this worker is stopping"
    DISPLACED = "another worker drives the execution"
    GONE = "there is no such execution, or not all of its log"


@dataclass(frozen=True, slots=True)
class DriveResult:
    """How a drive ended.

    Attributes:
        end: why.
        last_sequence: the last sequence of the log that the drive has seen.
        due: for a waiting execution, when it must be driven on (seconds since the epoch).
    """

    end: End
    last_sequence: int
    due: float | None = None
