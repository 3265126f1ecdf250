"""Make node types of Python functions, whose parameters are the keys of ``with``.

``@node`` only marks the function; a :class:`~tailrace_worker.nodes.registry.NodeRegistry` finds
the marks in the modules that it loads. So importing a module of nodes has no side effect.
"""

import contextlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, Final, Literal, Protocol, TypeVar, get_args, get_origin, get_type_hints

from tailrace_shared.ids import is_valid_node_type
from tailrace_shared.workflow.node_types import SHIPPED, Kind, NodeType, Parameter
from tailrace_worker.nodes.annotations import schema_of

_MARK: Final = "__tailrace_node__"
_CONTEXT: Final = "ctx"
# Kinds that the API can check; every other annotation takes any value.
_KINDS: Final[Mapping[Any, Kind]] = {
    bool: "boolean",
    dict: "object",
    float: "number",
    int: "integer",
    Mapping: "object",
    str: "text",
}
_ACTOR_OPTIONS: Final = frozenset({"priority", "time_limit"})

F = TypeVar("F", bound=Callable[..., Any])


class NodeFailedError(Exception):
    """Raised by a node to fail its attempt with a message that users see unchanged.

    Args:
        message: what went wrong, for the users who watch the execution.
        retryable: whether another attempt may succeed; if not, the step fails at once.
        detail: a longer explanation, for example the answer of a server; at most 2048 characters
            are kept.
    """

    def __init__(self, message: str, *, retryable: bool = True, detail: str = "") -> None:
        super().__init__(message)
        self.retryable = retryable
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Wait:
    """Returned by a node to let its step wait without occupying a worker.

    Args:
        until: when the step completes, in seconds since the epoch; None for ``seconds`` from now
            by the clock that all workers share.
        seconds: how long to wait if ``until`` is None.
    """

    until: float | None = None
    seconds: float = 0.0


class NodeContext(Protocol):
    """The argument ``ctx`` of a node function: its attempt. Usable from any thread."""

    @property
    def tenant(self) -> str:
        """The tenant of the execution."""

    @property
    def execution_id(self) -> str:
        """The id of the execution."""

    @property
    def node_id(self) -> str:
        """The id of the node within its workflow."""

    @property
    def attempt(self) -> int:
        """The number of the attempt, from 1."""

    @property
    def idempotency_key(self) -> str:
        """A key for idempotent effects: the same for every attempt of this step."""

    @property
    def cancelled(self) -> bool:
        """Whether the attempt's result is no longer wanted; a long function should check it."""

    def progress(self, percent: float, message: str = "", **fields: Any) -> None:
        """Report progress. At most five reports a second are stored, and always the last one.

        Args:
            percent: from 0 to 100.
            message: a short text for users.
            fields: further JSON values.
        """

    def log(self, message: str, level: str = "info", **fields: Any) -> None:
        """Write a line to the execution's log."""


@dataclass(frozen=True, slots=True)
class NodeFunction:
    """A node type and the function that implements it.

    Attributes:
        type: the node type, with the keys of ``with``.
        call: the function.
        takes_context: whether it has a parameter ``ctx``.
        is_async: whether it is a coroutine function; others run in threads.
        is_instant: whether it has no effects and never waits, so that it runs inside a commit.
        actor_options: the options of its Dramatiq actor, if it has one.
    """

    type: NodeType
    call: Callable[..., Any]
    takes_context: bool
    is_async: bool
    is_instant: bool
    actor_options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_actor(self) -> bool:
        """Whether a Dramatiq actor runs it, rather than the worker that drives the execution."""
        return self.type.actor


def node(
    name: str, *, instant: bool = False, actor: bool = False, **actor_options: Any
) -> Callable[[F], F]:
    """Declare a function to be the node type ``name``.

    The function's parameters are the keys of ``with``, its return value (JSON) is the output. A
    parameter called ``ctx`` receives a :class:`NodeContext`. A synchronous function runs in a
    thread, a coroutine function on the worker's event loop.

    Args:
        name: the type in definitions, for example ``po.parse``.
        instant: whether the function is pure and quick; it then runs on the event loop, inside
            the commit.
        actor: whether the function is a Dramatiq actor on a queue of its own, so that all workers
            that have the function share its steps.
        actor_options: for an actor, Dramatiq's ``time_limit`` (milliseconds) and ``priority``.

    Raises:
        ValueError: the name is invalid, a parameter of the function cannot be a key, or the
            options conflict.
    """
    if not is_valid_node_type(name):
        raise ValueError(f"{name!r} is not a node type: use ids joined by dots")
    if instant and actor:
        raise ValueError(f"node {name}: an actor cannot be instant")
    if unknown := actor_options.keys() - (_ACTOR_OPTIONS if actor else frozenset()):
        known = (
            f"actors take {', '.join(sorted(_ACTOR_OPTIONS))}" if actor else "it is not an actor"
        )
        raise ValueError(f"node {name}: unknown option {', '.join(sorted(unknown))}: {known}")

    def mark(function: F) -> F:
        described = _describe(name, function, instant=instant, actor=actor)
        setattr(function, _MARK, replace(described, actor_options=actor_options))
        return function

    return mark


def declared_node(candidate: Any) -> NodeFunction | None:
    """Return the node function that ``@node`` has attached to ``candidate``, or None."""
    # Statically: a module may hold proxies that raise, or do work, on attribute access.
    found = inspect.getattr_static(candidate, _MARK, None)
    return found if isinstance(found, NodeFunction) else None


def _describe(
    name: str, function: Callable[..., Any], *, instant: bool, actor: bool = False
) -> NodeFunction:
    parameters = dict(inspect.signature(function).parameters)
    is_async = inspect.iscoroutinefunction(function)
    if instant and is_async:
        raise ValueError(f"node {name}: a coroutine function cannot be instant")
    is_open, hints = False, _hints(function)
    keys: dict[str, Parameter] = {}
    for parameter in parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            is_open = True
        elif parameter.kind in {parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL}:
            raise ValueError(f"node {name}: parameter {parameter} cannot be a key of `with`")
        elif parameter.name != _CONTEXT:
            required = parameter.default is parameter.empty
            hint = hints.get(parameter.name)
            if parameter.default is None and hint is not None:
                hint = _optional(hint)  # Python accepts None as the default of any type
            keys[parameter.name] = _parameter(hint, required=required)
    summary = (inspect.getdoc(function) or "").partition("\n")[0]
    declared = NodeType(
        name,
        keys,
        open=is_open,
        summary=summary,
        actor=actor,
        secrets=not instant,
        output=schema_of(hints.get("return"), closed=True),
    )
    return NodeFunction(
        type=SHIPPED.get(name) or declared,
        call=function,
        takes_context=_CONTEXT in parameters,
        is_async=is_async,
        is_instant=instant,
    )


def _hints(function: Callable[..., Any]) -> Mapping[str, Any]:
    """Return the annotations that can be resolved."""
    hints: dict[str, Any] = {}
    scope = getattr(inspect.unwrap(function), "__globals__", {})
    for name, annotation in inspect.get_annotations(function).items():
        alone = SimpleNamespace(__annotations__={name: annotation})
        # Annotations may be any expression, also of missing names.
        with contextlib.suppress(Exception):
            hints |= get_type_hints(alone, scope)
    return hints


def _parameter(hint: Any, *, required: bool) -> Parameter:
    """Declare a parameter by its annotation, so that the API can check literal values."""
    if get_origin(hint) is Literal and all(isinstance(each, str) for each in get_args(hint)):
        return Parameter("text", required=required, choices=list(get_args(hint)))
    kind: Kind = _KINDS.get(get_origin(hint) or hint, "any") if _is_hashable(hint) else "any"
    schema = schema_of(hint)
    if schema == {"type": kind}:
        schema = None
    return Parameter(kind, required=required, schema=schema)


def _optional(hint: Any) -> Any:
    try:
        return hint | None
    except TypeError:
        return None


def _is_hashable(hint: Any) -> bool:
    try:
        hash(hint)
    except TypeError:
        return False
    return True
