"""Bound the cost of an expression before it is evaluated.

CEL always terminates, but an evaluation cannot be interrupted, and it blocks the event loop: two
nested loops over a caller's list take the square of its length. So the number of steps of an
expression with loops is estimated from its values, and the evaluation is refused if there could be
too many. A step takes at most a microsecond.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tailrace_shared.errors import ExpressionError
from tailrace_shared.workflow.expressions.functions import REPLACED

MAX_STEPS: Final = 4_000_000

MACROS: Final[Mapping[str, int]] = {
    "all": 1,
    "exists": 1,
    "exists_one": 1,
    # The evaluator copies its result list at each element, so these two are quadratic.
    "filter": 2,
    "map": 2,
}
"""The loops of CEL. The number of steps is the number of elements to this power."""

# Extension functions that iterate over one argument for each element of another.
_NESTING: Final = frozenset({"distinct", "sets.contains", "sets.equivalent", "sets.intersects"})
# Extension functions whose result is as long as the product of two lengths.
_WEAVING: Final = frozenset({"join", "replace", "split"})
# Functions that read the whole text at each call.
_READING: Final = frozenset({REPLACED["size"][0]})
# Only larger objects count as something to loop over.
_RECORD_FIELDS: Final = 64
# Copying a string is faster than visiting elements.
_CHARACTERS_PER_STEP: Final = 64


@dataclass(frozen=True, slots=True)
class Loops:
    """The loops of an expression.

    Attributes:
        power: the maximum of their powers. Nested loops over parts of one value visit each of its
            elements once, so their powers do not add up.
        bodies: outer names in loop bodies as paths, such as ``("input", "rate")``, each with the
            number of loops around it. The value of such a name may be traversed in every
            iteration.
    """

    power: int
    bodies: frozenset[tuple[int, tuple[str, ...]]]


def check_cost(
    source: str, loops: Loops, functions: Iterable[str], context: Mapping[str, Any]
) -> None:
    """Refuse an evaluation that could take too many steps.

    Raises:
        ExpressionError: the evaluation could take too many steps.
    """
    called = set(functions)
    weaves = bool(called & _WEAVING)
    power = max(loops.power, 2 if weaves or called & _NESTING else 0)
    if not power:
        return
    elements = _count(context, texts=weaves)
    reads = bool(called & _READING)
    iterations: dict[int, int] = {}
    for depth, path in loops.bodies:
        named = _count({"": _resolve(path, context)}, texts=reads)
        iterations[depth] = iterations.get(depth, 1) + named
    if elements**power * math.prod(iterations.values()) > MAX_STEPS:
        raise ExpressionError(
            f"{source}: too many steps over {elements} values; use a custom node function instead"
        )


def _count(context: Mapping[str, Any], *, texts: bool) -> int:
    """Count the elements that loops could visit, up to the limit."""
    found = 0
    waiting: list[Any] = list(context.values())
    while waiting and found <= MAX_STEPS:
        value = waiting.pop()
        if isinstance(value, list):
            found += len(value)
            waiting.extend(value)
        elif isinstance(value, Mapping):
            found += len(value) if len(value) > _RECORD_FIELDS else 0
            waiting.extend(value.values())
        elif texts and isinstance(value, str):
            found += len(value) // _CHARACTERS_PER_STEP
    return found


def _resolve(path: tuple[str, ...], context: Mapping[str, Any]) -> Any:
    value: Any = context
    for step in path:
        if not isinstance(value, Mapping) or step not in value:
            return value
        value = value[step]
    return value
