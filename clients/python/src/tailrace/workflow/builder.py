"""Run workflow functions to collect their steps."""

import contextlib
import contextvars
import difflib
import inspect
import types
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from tailrace.workflow.expressions import Expression, key_of, steps_in, template_of

_MARK: Final = "__tailrace_node__"
OPTIONS: Final = (
    *("id", "name", "needs", "when", "join", "stage", "retry", "timeout", "on_timeout"),
    *("on_crash", "on_error", "sensitive"),
)
_Group = Literal["on_failure", "finally"]


class Builder:
    """Collects the steps of one workflow.

    Attributes:
        nodes: the nodes of the main part.
        fields: the fields of the definition that the function has set.
        part: the nodes of the part that is being described.
    """

    def __init__(self) -> None:
        self.nodes: dict[str, Any] = {}
        self.fields: dict[str, Any] = {}
        self.part = self.nodes
        self._target = self.nodes
        self._ids: set[str] = set()

    def add(
        self, node_type: str, parameters: Mapping[str, Any], default_id: str, **options: Any
    ) -> "Step":
        """Add a step.

        Raises:
            TypeError: an option is unknown.
            ValueError: another step has its id.
        """
        check_names(f"a step of type {node_type}", options, OPTIONS)
        node_id = options.pop("id", None) or self._free(default_id)
        if node_id in self._ids:
            raise ValueError(f"two steps have the id {node_id!r}: pass another id")
        self._ids.add(node_id)
        node: dict[str, Any] = {"type": node_type}
        if (name := options.pop("name", None)) is not None:
            node["name"] = name
        if parameters:
            node["with"] = template_of(parameters)
        needs = self._needs(options.pop("needs", ()), parameters, options.get("when"))
        if needs:
            node["needs"] = needs
        for key, value in options.items():
            if value is not None:
                node[key] = _plain(key, value)
        self._target[node_id] = node
        return Step(node_id)

    @contextlib.contextmanager
    def group(self, name: _Group, **fields: Any) -> Iterator[None]:
        """Add the steps within to a group."""
        group = self.fields.setdefault(name, {"nodes": {}, **fields})
        before = self.part
        self.part = self._target = group["nodes"]
        try:
            yield
        finally:
            self.part = self._target = before

    @contextlib.contextmanager
    def apart(self) -> Iterator[dict[str, Any]]:
        """Collect steps that are no nodes: the work of a map."""
        collected: dict[str, Any] = {}
        ids, self._ids = self._ids, set()
        self._target = collected
        try:
            yield collected
        finally:
            self._target, self._ids = self.part, ids

    def _free(self, default_id: str) -> str:
        found, number = default_id, 2
        while found in self._ids:
            found, number = f"{default_id}_{number}", number + 1
        return found

    def _needs(self, declared: Any, *values: Any) -> list[str]:
        named = [step_id(each) for each in declared]
        # Of the same part only: a group begins when the parts before it have ended.
        used = frozenset().union(*map(steps_in, values)) & self.part.keys()
        return [*named, *(each for each in self.part if each in used and each not in named)]


class Step(Expression):
    """A step of a workflow function. As an expression it is its output."""

    __slots__ = ()

    def __init__(self, node_id: str) -> None:
        output = _facts(node_id).output.source_
        super().__init__(output.cel, output.steps)

    @property
    def status_(self) -> Expression:
        """The status: ``success``, ``error``, ``skipped`` or ``cancelled``."""
        return _facts(step_id(self)).status

    @property
    def error_(self) -> Expression:
        """The error message; null if the step has not failed."""
        return _facts(step_id(self)).error


def _facts(node_id: str) -> Expression:
    return Expression("nodes", frozenset([node_id]))[node_id]


def step_id(step: Any) -> str:
    """Return the id of a step that is named in ``needs``.

    Raises:
        TypeError: it is no step.
    """
    if isinstance(step, str):
        return step
    if isinstance(step, Step):
        (found,) = step.source_.steps
        return found
    raise TypeError(f"needs takes steps, or their ids, not {step!r}")


_CURRENT: Final[contextvars.ContextVar[Builder]] = contextvars.ContextVar("builder")


def current() -> Builder:
    """Return the builder of the workflow function that is running.

    Raises:
        RuntimeError: none is running.
    """
    builder = _CURRENT.get(None)
    if builder is None:
        raise RuntimeError("steps are added inside a function with @workflow only")
    return builder


def on_failure(then: Literal["failed", "completed"] = "failed") -> Any:
    """Add the steps in a ``with`` block to ``on_failure``.

    Args:
        then: the status of the run if all of them succeed.
    """
    fields = {} if then == "failed" else {"then": then}
    return current().group("on_failure", **fields)


def finally_group() -> Any:
    """Add the steps in a ``with`` block to ``finally``."""
    return current().group("finally")


class Workflow:
    """A workflow that a function describes.

    Attributes:
        id: its id.
        function: the function.
    """

    def __init__(self, id: str, function: Callable[..., Any], fields: Mapping[str, Any]) -> None:  # noqa: A002
        self.id = id
        self.function = function
        self._fields = fields

    def __repr__(self) -> str:
        return f"<Workflow {self.id}>"

    def definition(self) -> dict[str, Any]:
        """Return the definition, as YAML would have it."""
        builder = Builder()
        token = _CURRENT.set(builder)
        try:
            takes_input = inspect.signature(self.function).parameters
            arguments = [Expression("input")] if takes_input else []
            output = _with_steps(self.function)(*arguments)
        finally:
            _CURRENT.reset(token)
        document = {"id": self.id, **self._fields, "nodes": builder.nodes, **builder.fields}
        if output is not None:
            document["output"] = template_of(output)
        return document


def workflow(
    id: str,  # noqa: A002 - the name of the field
    *,
    input: Any = None,  # noqa: A002
    **fields: Any,
) -> Callable[[Callable[..., Any]], Workflow]:
    """Declare a function to be a workflow.

    The function gets the input as an expression, and returns the output of the run; None returns
    the outputs of the last steps.

    Args:
        id: the id of the workflow.
        input: the type of the input (a struct, dataclass or typed dictionary) or its JSON Schema.
        fields: further fields of the definition: ``name``, ``description``, ``timeout``, ``tags``,
            ``concurrency``, ``defaults``, ``schedules``.
    """
    header = {key: _plain(key, value) for key, value in fields.items() if value is not None}
    if input is not None:
        header["input"] = template_of(input) if isinstance(input, Mapping) else schema_of(input)

    def declare(function: Callable[..., Any]) -> Workflow:
        return Workflow(id, function, header)

    return declare


def schema_of(hint: Any) -> dict[str, Any]:
    """Return the JSON Schema of a type."""
    schema = msgspec.json.schema(hint)
    definitions = schema.pop("$defs", {})
    name = str(schema.get("$ref", "")).rpartition("/")[2]
    if name in definitions:
        schema = definitions.pop(name)
    if definitions:
        schema["$defs"] = definitions
    return schema


def declared(candidate: Any) -> Any:
    """Return the declaration that ``@node`` has attached to a function, or None."""
    if isinstance(candidate, Expression):
        return None
    found = inspect.getattr_static(candidate, _MARK, None)
    return None if found is None or not callable(candidate) else found


class StepOf:
    """Stands for a node function while a workflow function runs: a call adds a step."""

    def __init__(self, function: Callable[..., Any], options: Mapping[str, Any]) -> None:
        self._function = function
        self._options = options
        self._type = declared(function).type

    def with_options(self, options: Mapping[str, Any]) -> "StepOf":
        """Return a stand-in whose steps have options."""
        return StepOf(self._function, {**self._options, **options})

    def __call__(self, *positional: Any, **given: Any) -> Step:
        known = self._type.parameters
        if len(positional) > len(known):
            raise TypeError(f"{self._type.name} takes {len(known)} parameters")
        given |= dict(zip(known, positional, strict=False))
        if not self._type.open:
            check_names(self._type.name, given, (*known, *OPTIONS))
        parameters = {
            key: each for key, each in given.items() if key in known or key not in OPTIONS
        }
        options = {key: each for key, each in given.items() if key not in parameters}
        name = self._function.__name__
        return current().add(self._type.name, parameters, name, **{**self._options, **options})


class _Module:
    """Stands for a module while a workflow function runs."""

    def __init__(self, module: types.ModuleType) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return _stand_in(getattr(self._module, name))


def _stand_in(value: Any) -> Any:
    if declared(value) is not None:
        return StepOf(value, {})
    if isinstance(value, types.ModuleType):
        return _Module(value)
    return value


def _with_steps(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a copy of a workflow function in which calls of node functions add steps.

    The node functions themselves stay as they are, so tests can call them.
    """
    if not isinstance(function, types.FunctionType):
        raise TypeError(f"{function!r} is not a function")
    used = {*_names(function.__code__)}
    scope = {
        name: _stand_in(value) if name in used else value
        for name, value in function.__globals__.items()
    }
    cells = tuple(
        types.CellType(_stand_in(cell.cell_contents)) for cell in function.__closure__ or ()
    )
    copy = types.FunctionType(
        function.__code__, scope, function.__name__, function.__defaults__, cells
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for each in code.co_consts:
        if isinstance(each, types.CodeType):
            yield from _names(each)


def check_names(owner: str, given: Collection[str], known: Sequence[str]) -> None:
    """Check that only known names are given.

    Raises:
        TypeError: with the most similar known name.
    """
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f", did you mean {near[0]!r}?" if near else ""
            raise TypeError(f"{owner} takes no {name!r}{hint}")


def _plain(key: str, value: Any) -> Any:
    """Return the value of a field as JSON; bare expressions have no ``${…}``."""
    if isinstance(value, Expression):
        return value.source_.cel if key in {"when", "key"} else str(value)
    if hasattr(value, "as_field"):
        return template_of(value.as_field())
    if isinstance(value, Mapping):
        return {key_of(name): _plain(name, each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain("", each) for each in value]
    return template_of(value)
