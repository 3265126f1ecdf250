"""Every error that the command and the client raise on purpose.

A message is one line that says what went wrong and what to do. ``exit_code`` is what the command
ends with: 1 when the request was understood and refused, 2 when it could not be made at all.
"""

from typing import NamedTuple


class Problem(NamedTuple):
    """One thing wrong with a definition, an input or a request."""

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
        status: the HTTP status.
        title: the problem's title.
        detail: what is wrong with this request.
        problems: every place that is wrong, where the API names them.
    """

    def __init__(
        self, status: int, title: str, detail: str = "", problems: tuple[Problem, ...] = ()
    ) -> None:
        # What is wrong in one place is often all that there is to say: once will do.
        repeated = any(problem.detail == detail for problem in problems)
        parts = map(str, problems) if repeated else (detail or title, *map(str, problems))
        super().__init__("; ".join(dict.fromkeys(parts)))
        self.status = status
        self.title = title
        self.detail = detail
        self.problems = problems


class UnreachableError(TailraceError):
    """The API could not be reached, or stopped answering."""

    exit_code = 2


class DefinitionFileError(TailraceError):
    """A file holds no workflow definition that could be sent."""


class TraceError(TailraceError):
    """A file is not a WfCommons trace that can become a workflow."""


class StartError(TailraceError):
    """``tailrace up`` cannot start as asked."""

    exit_code = 2
