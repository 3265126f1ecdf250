"""What an expression may cost at the most, known before it is evaluated.

CEL always ends, but nothing ends it early, and the evaluator gives nobody else a turn meanwhile:
two loops inside each other over a list that a caller has sent take the square of its length. So
before an expression with loops is evaluated, its steps are estimated from the values at hand, and
it is refused where they could be too many. A step takes a microsecond or less.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tailrace_shared.errors import ExpressionError

MAX_STEPS: Final = 4_000_000

MACROS: Final[Mapping[str, int]] = {
    "all": 1,
    "exists": 1,
    "exists_one": 1,
    # The evaluator copies the list that it makes at each element, so these two are quadratic.
    "filter": 2,
    "map": 2,
}
"""CEL's loops, with the power of the number of elements to which their steps grow."""

# Extension functions that go over one argument for each element of another.
_NESTING: Final = frozenset({"distinct", "sets.contains", "sets.equivalent", "sets.intersects"})
# And those that make texts as long as the product of two lengths.
_WEAVING: Final = frozenset({"join", "replace", "split"})
# A record is not something to loop over; a larger object may be.
_RECORD_FIELDS: Final = 64
# Texts are copied faster than elements are visited.
_CHARACTERS_A_STEP: Final = 64


@dataclass(frozen=True, slots=True)
class Loops:
    """The loops of an expression.

    Attributes:
        power: the largest of their powers. Loops inside each other over parts of the same value
            go over each of its elements once, so their powers do not add up.
        bodies: paths of names from outside that bodies mention, such as ``("input", "rate")``,
            each with the number of loops around it: what such a name stands for may be gone over
            at every turn.
    """

    power: int
    bodies: frozenset[tuple[int, tuple[str, ...]]]


def check_cost(
    source: str, loops: Loops, functions: Iterable[str], context: Mapping[str, Any]
) -> None:
    """Refuse an evaluation that could take too many steps.

    Args:
        source: the expression, for the message.
        loops: its loops.
        functions: the extension functions that it calls.
        context: the values that it is evaluated on.

    Raises:
        ExpressionError: it could take too many.
    """
    called = set(functions)
    weaves = bool(called & _WEAVING)
    power = max(loops.power, 2 if weaves or called & _NESTING else 0)
    if not power:
        return
    elements = _count(context, texts=weaves)
    turns: dict[int, int] = {}
    for depth, path in loops.bodies:
        named = _count({"": _resolve(path, context)}, texts=False)
        turns[depth] = turns.get(depth, 1) + named
    if elements**power * math.prod(turns.values()) > MAX_STEPS:
        raise ExpressionError(
            f"{source}: too many steps over {elements} values; "
            "do this in a node function of your own"
        )


def _count(context: Mapping[str, Any], *, texts: bool) -> int:
    """Count what loops could go over, and stop soon after that is too much for any."""
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
            found += len(value) // _CHARACTERS_A_STEP
    return found


def _resolve(path: tuple[str, ...], context: Mapping[str, Any]) -> Any:
    value: Any = context
    for step in path:
        if not isinstance(value, Mapping) or step not in value:
            return value
        value = value[step]
    return value
