"""How a drive ended."""

from dataclasses import dataclass
from enum import Enum


class End(Enum):
    """Why a drive ended."""

    FINISHED = "the execution is terminal"
    WAITING = "nothing to do before a timer, a request, a signal or a child run"
    READ_AGAIN = "the log may not be as the drive knew it when it left"
    HANDED_OVER = "this worker is stopping"
    DISPLACED = "another worker drives the execution"
    NOT_FOUND = "there is no such execution, or part of its log has expired"


@dataclass(frozen=True, slots=True)
class DriveResult:
    """How a drive ended.

    Attributes:
        end: why.
        last_sequence: the last sequence of the log that the drive has read or written.
        due: for a waiting execution, when its next timer is due, in seconds since the epoch.
    """

    end: End
    last_sequence: int
    due: float | None = None
