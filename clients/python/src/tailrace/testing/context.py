"""A ``ctx`` for unit tests of node functions."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class FakeContext:
    """The ``ctx`` of a node function, which keeps what the function reports.

    Attributes:
        cancelled: whether the attempt's result is no longer wanted; a test may set it.
        reports: the arguments of ``progress``: percent, message and fields.
        lines: the arguments of ``log``: level, message and fields.
    """

    tenant: str = "test"
    execution_id: str = "test-run"
    node_id: str = "test-node"
    attempt: int = 1
    cancelled: bool = False
    reports: list[tuple[float, str, dict[str, Any]]] = field(default_factory=list)
    lines: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt of this step."""
        return f"{self.execution_id}:{self.node_id}"

    def progress(self, percent: float, message: str = "", **fields: Any) -> None:
        """Keep a report."""
        self.reports.append((percent, message, fields))

    def log(self, message: str, level: str = "info", **fields: Any) -> None:
        """Keep a line."""
        self.lines.append((level, message, fields))


def context(**fields: Any) -> FakeContext:
    """Return a context for a unit test of a node function."""
    return FakeContext(**fields)
