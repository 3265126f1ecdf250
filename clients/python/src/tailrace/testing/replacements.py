"""Node functions of a test: the real ones, and what replaces them."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from tailrace_shared.duration import Duration
from tailrace_shared.workflow.node_types import SHIPPED, NodeType
from tailrace_worker.nodes.node import NodeFailedError, NodeFunction, declared_node
from tailrace_worker.nodes.registry import NodeRegistry, load_registry

_CONTEXT: Final = "ctx"


@dataclass(frozen=True, slots=True)
class Takes:
    """A return value, and how long the function takes in skipped time."""

    seconds: float
    value: Any


def takes(duration: str, value: Any = None) -> Takes:
    """Let a replaced node take some time, for example ``5m``; return this from its function.

    Args:
        value: the output, or an exception to raise at the end.
    """
    return Takes(float(Duration.parse(duration)), value)


class Clock:
    """The time that the function that ran last takes, in seconds."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def take(self) -> float:
        """Return the time, and begin anew."""
        seconds, self.seconds = self.seconds, 0.0
        return seconds


Nodes = Mapping[str, Any] | Iterable[Callable[..., Any]]


class Replacements:
    """The node functions of one test.

    Args:
        nodes: replacements by node type, or node functions to use as they are.
        modules: modules of node functions, separated by commas.
        clock: gets the time that replaced functions take.
    """

    def __init__(self, nodes: Nodes, modules: str, clock: Clock) -> None:
        self._clock = clock
        functions = {function.type.name: function for function in _loaded(modules)}
        # Nothing in a test may send requests by mistake.
        functions["http"] = self._function("http", _refuse_http)
        if isinstance(nodes, Mapping):
            for name, given in nodes.items():
                functions[name] = self._function(name, given, functions.get(name))
        else:
            for given in nodes:
                declared = declared_node(given)
                if declared is None:
                    raise TypeError(f"{given!r} is not a node function: mark it with @node")
                functions[declared.type.name] = declared
        self.registry = NodeRegistry(functions.values())
        self.types: dict[str, NodeType] = {
            **SHIPPED,
            **{name: function.type for name, function in functions.items()},
        }

    def _function(
        self, name: str, given: Any, original: NodeFunction | None = None
    ) -> NodeFunction:
        known = SHIPPED.get(name) or (None if original is None else original.type)
        if (declared := declared_node(given)) is not None:
            known, given = known or declared.type, declared.call
        call = self._adapted(given) if callable(given) else self._constant(given)
        is_async = inspect.iscoroutinefunction(given)
        return NodeFunction(
            type=known or _open_type(name),
            call=call,
            takes_context=True,
            is_async=is_async,
            is_instant=False,
        )

    def _constant(self, value: Any) -> Callable[..., Any]:
        return lambda **_parameters: self._returned(value)

    def _adapted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that takes any parameters, and passes those that the given one has."""
        parameters = inspect.signature(function).parameters.values()
        takes_all = any(each.kind is each.VAR_KEYWORD for each in parameters)
        names = {each.name for each in parameters}

        def chosen(given: dict[str, Any]) -> dict[str, Any]:
            return {
                key: value
                for key, value in given.items()
                if key in names or (takes_all and key != _CONTEXT)
            }

        if inspect.iscoroutinefunction(function):

            async def call_later(**given: Any) -> Any:
                return self._returned(await function(**chosen(given)))

            return call_later
        return lambda **given: self._returned(function(**chosen(given)))

    def _returned(self, value: Any) -> Any:
        if isinstance(value, Takes):
            self._clock.seconds = value.seconds
            value = value.value
        if isinstance(value, BaseException):
            raise value
        return value


@lru_cache(maxsize=256)
def _open_type(name: str) -> NodeType:
    # One object for all tests, so that definitions that use it are checked once.
    return NodeType(name, open=True, secrets=True)


@lru_cache(maxsize=16)
def _loaded(modules: str) -> tuple[NodeFunction, ...]:
    return tuple(load_registry(modules))


def _refuse_http() -> None:
    raise NodeFailedError(
        "a test sends no requests: replace the node, for example nodes={'http': {'status': 200}}",
        retryable=False,
    )
