"""Evaluate an expression: its loops here, and what is between them by the CEL library.

The library's loops copy their whole result at each element, so 2,000 records take seconds, and
neither they nor anything else in the library can be interrupted. Here a loop is linear, and each
round is charged to the budget. A part without loops costs what is copied into it, which is known
before it is evaluated. It receives only the values that it names.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import cel

from tailrace_shared.errors import ExpressionError
from tailrace_shared.workflow.expressions import functions
from tailrace_shared.workflow.expressions.budget import Budget, TooExpensiveError, current
from tailrace_shared.workflow.expressions.free_names import find_free_names
from tailrace_shared.workflow.expressions.loops import (
    PATH,
    ElementSource,
    LoopSource,
    NativeSource,
    SizeSource,
    hole,
    split,
)
from tailrace_shared.workflow.expressions.tokens import rename_calls, tokens_of

Names = Mapping[str, Any]
FAILURES: Final = (
    *(ExpressionError, KeyError, ValueError, TypeError, RuntimeError),
    *(ArithmeticError, IndexError),
)
"""The exceptions of a failed evaluation."""

_CALL_STEPS: Final = 1.0
_TOKEN_STEPS: Final = 0.1
_ROUND_STEPS: Final = 1.0
# Into the library and out of it again.
_COPIES: Final = 2
# What may copy a value within the library.
_COPYING: Final = frozenset({"+", "[", "{", "?"})


class Part(Protocol):
    """An expression, or a part of one."""

    def evaluate(self, names: Names, budget: Budget) -> Any:
        """Return its value. Raises one of :data:`FAILURES`."""
        ...


def compile_part(source: str, program: cel.Program | None = None) -> Part:
    """Compile a valid expression.

    Args:
        program: the expression as the library has compiled it, if it has.

    Raises:
        ValueError: it is not valid after all.
    """
    if (path := PATH.fullmatch(source)) and find_free_names(source).names:
        return Path(tuple(path[1].split(".")))
    rewritten, sources = split(source)
    natives = [_compile_native(each) for each in sources]
    if len(natives) == 1 and rewritten.strip() == f"{hole(0)}()[0]":
        return natives[0]
    return _Leaf(rewritten, natives, None if natives else program)


def _compile_native(source: NativeSource) -> Part:
    target = compile_part(source.target)
    match source:
        case SizeSource():
            return _Size(target)
        case ElementSource():
            return _Element(target, compile_part(source.index))
        case LoopSource():
            bodies = [compile_part(body) for body in source.bodies]
            return _Loop(source.macro, target, source.name, bodies[0], bodies[-1])


@dataclass(frozen=True, slots=True)
class Path:
    """A plain path. Its value is the named one itself, so it costs nothing."""

    steps: tuple[str, ...]

    def evaluate(self, names: Names, _budget: Budget) -> Any:
        value: Any = names
        for step in self.steps:
            if not isinstance(value, Mapping):
                path = ".".join(self.steps)
                raise ExpressionError(
                    f"{path}: cannot read {step!r} of {_kind(value)}; it is not an object"
                )
            value = value[step]
        return value


@dataclass(frozen=True, slots=True)
class _Size:
    target: Part

    def evaluate(self, names: Names, budget: Budget) -> int:
        value = self.target.evaluate(names, budget)
        try:
            return functions.size(value)
        except TypeError as error:
            raise TypeError(f"size(): {error}") from None


@dataclass(frozen=True, slots=True)
class _Element:
    target: Part
    index: Part

    def evaluate(self, names: Names, budget: Budget) -> Any:
        value, index = self.target.evaluate(names, budget), self.index.evaluate(names, budget)
        if isinstance(value, Mapping):
            return value[index]
        if not isinstance(value, list):
            raise TypeError(f"cannot read [{index!r}] of {_kind(value)}; it is no list or map")
        if isinstance(index, bool) or not isinstance(index, int):
            raise TypeError(f"the index of a list is an integer, not {_kind(index)}")
        if not 0 <= index < len(value):
            raise IndexError(f"index out of bounds: {index}")
        return value[index]


class _Leaf:
    """A part that the library evaluates. It calls a function for each part within it.

    Such a function returns an empty list where its part fails, so that the library reports a
    failed index. It would print an exception to standard error.
    """

    def __init__(self, source: str, natives: list[Part], program: cel.Program | None) -> None:
        renamed = source
        for name, (new, _function) in functions.REPLACED.items():
            renamed = rename_calls(renamed, name, new)
        if program is None or renamed != source:
            program = cel.compile(renamed)
        self._program: cel.Program = program
        source = renamed
        self._natives = natives
        self._functions = functions.called_by(self._program)
        tokens = tokens_of(source)
        self._steps = _CALL_STEPS + _TOKEN_STEPS * len(tokens)
        self._copies = _COPIES + sum(token.text in _COPYING for token in tokens)
        self._paths = [
            (path[0], path[1:], self._copies * count)
            for path, count in _counted(find_free_names(source).references)
        ]

    def evaluate(self, names: Names, budget: Budget) -> Any:
        steps = self._steps
        context: dict[str, Any] = {}
        for name, rest, copies in self._paths:
            if name not in names:
                continue
            value = names[name]
            if rest and isinstance(value, Mapping):
                value = _place(context.setdefault(name, {}), value, rest)
            else:
                context[name] = value
            steps += budget.cost_of_copies(value, copies)
        budget.spend(steps)
        if self._natives:
            return self._evaluate_with_natives(context, names, budget)
        if not self._functions:
            return self._program.execute(context)
        return self._execute(context, self._functions, budget)

    def _execute(
        self, context: dict[str, Any], calls: dict[str, Callable[..., Any]], budget: Budget
    ) -> Any:
        # Functions that the library calls charge this budget.
        previous = current.set(budget)
        try:
            value = self._program.execute(cel.Context(context, calls))
        finally:
            current.reset(previous)
        # `||` and `&&` may have hidden that a part or a function was too expensive.
        budget.check()
        return value

    def _evaluate_with_natives(self, context: dict[str, Any], names: Names, budget: Budget) -> Any:
        failed: list[Exception] = []

        def calling(native: Part) -> Callable[[], list[Any]]:
            def call() -> list[Any]:
                try:
                    value = native.evaluate(names, budget)
                    budget.spend(budget.cost_of_copies(value, self._copies))
                except FAILURES as error:
                    failed.append(error)
                    return []
                return [value]

            return call

        calls = {hole(number): calling(each) for number, each in enumerate(self._natives)}
        try:
            return self._execute(context, {**self._functions, **calls}, budget)
        except FAILURES:
            if failed:
                raise failed[-1] from None
            raise


@dataclass(frozen=True, slots=True)
class _Loop:
    """A loop over the elements of a list, or the keys of a map.

    Attributes:
        body: the condition, or the result of a ``map``.
        last: the result of a ``map`` with a condition; else the same as ``body``.
    """

    macro: str
    target: Part
    name: str
    body: Part
    last: Part

    def evaluate(self, names: Names, budget: Budget) -> Any:
        target = self.target.evaluate(names, budget)
        if not isinstance(target, list | Mapping):
            raise TypeError(f"{self.macro}() iterates over a list or a map, not {_kind(target)}")
        items, inner = list(target), dict(names)
        match self.macro:
            case "all":
                return self._until(items, inner, budget, decisive=False)
            case "exists":
                return self._until(items, inner, budget, decisive=True)
            case "exists_one":
                return len(self._filter(items, inner, budget)) == 1
            case "filter":
                return self._filter(items, inner, budget)
            case _:
                if self.last is not self.body:
                    items = self._filter(items, inner, budget)
                return self._map(items, inner, budget)

    def _until(
        self, items: list[Any], names: dict[str, Any], budget: Budget, *, decisive: bool
    ) -> bool:
        """Look for a decisive element; a failure counts only if there is none."""
        failed: Exception | None = None
        for item in items:
            budget.spend(_ROUND_STEPS)
            names[self.name] = item
            try:
                if self._condition(names, budget) is decisive:
                    return decisive
            except TooExpensiveError:
                raise
            except FAILURES as error:
                failed = failed or error
        if failed is not None:
            raise failed
        return not decisive

    def _filter(self, items: list[Any], names: dict[str, Any], budget: Budget) -> list[Any]:
        budget.spend(_ROUND_STEPS * len(items))
        kept = []
        for item in items:
            names[self.name] = item
            if self._condition(names, budget):
                kept.append(item)
        return kept

    def _map(self, items: list[Any], names: dict[str, Any], budget: Budget) -> list[Any]:
        budget.spend(_ROUND_STEPS * len(items))
        values = []
        for item in items:
            names[self.name] = item
            values.append(self.last.evaluate(names, budget))
        return values

    def _condition(self, names: Names, budget: Budget) -> bool:
        value = self.body.evaluate(names, budget)
        if isinstance(value, bool):
            return value
        raise TypeError(f"the condition of {self.macro}() is {_kind(value)}, not true or false")


def _counted(references: Iterable[tuple[str, ...]]) -> list[tuple[tuple[str, ...], int]]:
    """Return the shortest paths that cover all references, each with the number of its uses."""
    counts: Counter[tuple[str, ...]] = Counter()
    for path in sorted(references, key=len):
        shorter = (path[:length] for length in range(1, len(path)))
        counts[next((each for each in shorter if each in counts), path)] += 1
    return list(counts.items())


def _place(target: dict[str, Any], source: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    """Put the value at ``path`` into an object, without what is beside it; return the value.

    Where the path ends early, the object has what is there, so that the evaluation fails alike.
    """
    for step in path[:-1]:
        if step not in source:
            return None
        value = source[step]
        if not isinstance(value, Mapping):
            target[step] = value
            return value
        source, target = value, target.setdefault(step, {})
    if path[-1] not in source:
        return None
    value = target[path[-1]] = source[path[-1]]
    return value


def _kind(value: Any) -> str:
    return "null" if value is None else f"a {type(value).__name__}"
