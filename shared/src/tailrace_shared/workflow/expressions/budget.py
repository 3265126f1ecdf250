"""Count what evaluations cost, and end them when it is too much.

The evaluator cannot be interrupted, and it blocks the event loop. So every evaluation is charged
before it begins: for each value that it copies, by elements and characters, for each pattern, and
for each round of a loop. A step is about a microsecond.
"""

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Final

import msgspec

from tailrace_shared.errors import ExpressionError

DEFAULT_STEPS: Final = 10_000
SETTING: Final = "TAILRACE_EXPRESSION_BUDGET"

ELEMENT_STEPS: Final = 0.1
CHARACTER_STEPS: Final = 0.001
_FEW_REFERENCES: Final = 16
_MAX_REFERENCED_BYTES: Final = 32 * 1024 * 1024
_SCALARS: Final = frozenset({int, float, bool, type(None)})


class TooExpensiveError(ExpressionError):
    """The expressions of one template cost more than they may."""


class Budget:
    """The steps that the expressions of one template may cost together.

    Args:
        steps: the limit.

    Attributes:
        spent: the steps that were charged.
    """

    __slots__ = ("_bytes", "_references", "_sizes", "spent", "steps")

    def __init__(self, steps: float = DEFAULT_STEPS) -> None:
        self.steps = steps
        self.spent = 0.0
        self._references = 0
        self._sizes: dict[int, int] | None = None

    def spend(self, steps: float) -> None:
        """Charge steps.

        Raises:
            TooExpensiveError: together with earlier ones, they are too many.
        """
        self.spent += steps
        self.check()

    def refer(self, value: Any) -> None:
        """Count a value that the template refers to. A large one may be named a thousand times.

        Raises:
            TooExpensiveError: all values that it refers to are too large together.
        """
        self._references += 1
        if self._references <= _FEW_REFERENCES:
            return
        if self._sizes is None:
            self._sizes, self._bytes = {}, 0
        size = self._sizes.get(id(value))
        if size is None:
            size = self._sizes[id(value)] = len(msgspec.json.encode(value))
        self._bytes += size
        if self._bytes > _MAX_REFERENCED_BYTES:
            raise TooExpensiveError(
                f"refers to more than {_MAX_REFERENCED_BYTES} bytes of values in one template"
            )

    @property
    def is_exceeded(self) -> bool:
        return self.spent > self.steps

    def check(self) -> None:
        """Raise :class:`TooExpensiveError` if too many steps were charged before."""
        if self.spent > self.steps:
            raise TooExpensiveError(
                f"takes more than {self.steps:.0f} steps ({SETTING}); "
                "use fewer or smaller values, or a custom node function"
            )

    def cost_of_copies(self, value: Any, copies: float) -> float:
        """Return the steps that copies of a value cost, capped just above the limit."""
        kind = type(value)
        if kind in _SCALARS:
            return ELEMENT_STEPS * copies
        if kind is str:
            return (ELEMENT_STEPS + len(value) * CHARACTER_STEPS) * copies
        return weigh(value, (self.steps - self.spent) / copies) * copies


current: Final[ContextVar[Budget]] = ContextVar("budget")
"""The budget of the evaluation that calls a function of an expression."""


def weigh(value: Any, limit: float) -> float:
    """Return the steps to copy a value; once they exceed ``limit``, the rest is not counted."""
    steps = 0.0
    waiting: list[Any] = [value]
    while waiting and steps <= limit:
        each = waiting.pop()
        if isinstance(each, str | bytes):
            steps += ELEMENT_STEPS + len(each) * CHARACTER_STEPS
        elif isinstance(each, list):
            steps += ELEMENT_STEPS * (1 + len(each))
            if steps <= limit:
                waiting += each
        elif isinstance(each, Mapping):
            steps += ELEMENT_STEPS * (1 + 2 * len(each))
            if steps <= limit:
                waiting += each
                waiting += each.values()
        else:
            steps += ELEMENT_STEPS
    return steps
