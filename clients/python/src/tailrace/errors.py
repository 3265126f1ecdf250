"""The errors that the command and the client raise.

A message is one line: the cause and a remedy. ``exit_code`` is the exit code of the command: 1 if
the request was understood and refused, 2 if it could not be made.
"""

from typing import NamedTuple


class Problem(NamedTuple):
    """One invalid place in a definition, an input or a request, as a JSON pointer and a message."""

    pointer: str
    detail: str

    def __str__(self) -> str:
        return f"{self.pointer}: {self.detail}" if self.pointer else self.detail


class TailraceError(Exception):
    """The base of all errors of this package."""

    exit_code = 1


class RefusedError(TailraceError):
    """The API answered with a problem (RFC 9457).

    Attributes:
        problems: all invalid places, if the API lists them.
    """

    def __init__(
        self, status: int, title: str, detail: str = "", problems: tuple[Problem, ...] = ()
    ) -> None:
        # The detail often repeats the only problem; do not print it twice.
        repeated = any(problem.detail == detail for problem in problems)
        parts = map(str, problems) if repeated else (detail or title, *map(str, problems))
        super().__init__("; ".join(dict.fromkeys(parts)))
        self.status = status
        self.title = title
        self.detail = detail
        self.problems = problems


class RunFailedError(TailraceError):
    """A run has failed or was cancelled.

    Attributes:
        status: ``failed`` or ``cancelled``.
        reason: the error of the run, or the reason of the cancellation.
    """

    def __init__(self, execution_id: str, status: str, reason: str | None) -> None:
        super().__init__(f"the run {execution_id} is {status}" + (f": {reason}" if reason else ""))
        self.execution_id = execution_id
        self.status = status
        self.reason = reason


class ProfileError(TailraceError):
    """The configuration file or a profile in it is not usable."""

    exit_code = 2


class UnreachableError(TailraceError):
    """The API could not be reached, or stopped responding."""

    exit_code = 2


class DefinitionFileError(TailraceError):
    """A file contains no valid workflow definition."""

    exit_code = 2


class TraceError(TailraceError):
    """A file is not a WfCommons trace that can be imported."""


class StartError(TailraceError):
    """``tailrace up`` cannot start with these options."""

    exit_code = 2
