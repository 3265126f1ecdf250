"""What an expression may cost at the most, known before it is evaluated.

CEL always ends, but nothing ends it early: two loops inside each other over a list that a caller
has sent take the square of its length, and the evaluator gives nobody else a turn meanwhile. So
an expression that loops is given as many steps as its loops could take at the worst on the values
at hand, and refused where that is too many.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from tailrace_shared.errors import ExpressionError

MAX_STEPS: Final = 400_000

# These go over one argument for each element of another.
_NESTING_FUNCTIONS: Final = frozenset(
    {"distinct", "sets.contains", "sets.equivalent", "sets.intersects"}
)
# And these make texts as long as the product of two lengths.
_TEXT_FUNCTIONS: Final = frozenset({"join", "replace", "split"})
# A record is not something to loop over, a large object may be.
_RECORD_FIELDS: Final = 64


def check_cost(
    source: str, loop_depth: int, functions: Iterable[str], context: Mapping[str, Any]
) -> None:
    """Refuse an evaluation that could take too many steps.

    Args:
        source: the expression, for the message.
        loop_depth: how many loops are inside each other; a name from outside in the body of a
            loop counts as one more, because what is done with it is done for each element.
        functions: the extension functions that the expression calls.
        context: the values that it is evaluated on.

    Raises:
        ExpressionError: naming the number of values and the limit.
    """
    called = set(functions)
    depth = max(loop_depth, 2 * bool(called & (_NESTING_FUNCTIONS | _TEXT_FUNCTIONS)))
    if depth < 2:
        return
    most = int(MAX_STEPS ** (1 / depth))
    if _count(context, most, texts=bool(called & _TEXT_FUNCTIONS)) > most:
        raise ExpressionError(
            f"{source}: loops inside loops over more than {most} values; "
            "do this in a function of your own"
        )


def _count(context: Mapping[str, Any], most: int, *, texts: bool) -> int:
    """Count what loops could go over, and stop counting soon after ``most``."""
    found = 0
    waiting: list[Any] = list(context.values())
    while waiting and found <= most:
        value = waiting.pop()
        if isinstance(value, list):
            found += len(value)
            waiting.extend(value[: most + 1])
        elif isinstance(value, Mapping):
            found += len(value) if len(value) > _RECORD_FIELDS else 0
            waiting.extend(value.values())
        elif texts and isinstance(value, str):
            found += len(value) // _RECORD_FIELDS
    return found
