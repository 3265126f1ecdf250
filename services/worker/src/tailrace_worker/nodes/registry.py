"""The node types that a worker can run: the shipped ones and those of user modules.

User modules come from the setting ``TAILRACE_NODES`` and from the entry point group
``tailrace.nodes`` (each a module, or one function).
"""

import importlib
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any, Final

from tailrace_shared.errors import SettingsError, StartupError
from tailrace_shared.workflow.node_types import NodeType
from tailrace_worker.nodes import await_, delay, fail, log, simulate, transform, workflow
from tailrace_worker.nodes.http import HttpLimits, make_http_node
from tailrace_worker.nodes.node import NodeFunction, declared_node
from tailrace_worker.nodes.raised import describe

ENTRY_POINTS: Final = "tailrace.nodes"
_SHIPPED_MODULES: Final = (transform, delay, log, fail, simulate, await_, workflow)


class NodeRegistry:
    """Finds node functions by type name."""

    def __init__(self, functions: Iterable[NodeFunction]) -> None:
        self._by_name: dict[str, NodeFunction] = {}
        for function in functions:
            self.add(function)

    def __iter__(self) -> Iterator[NodeFunction]:
        return iter(self._by_name.values())

    def add(self, function: NodeFunction) -> None:
        """Add a node function.

        Raises:
            StartupError: another function has the same type name.
        """
        other = self._by_name.setdefault(function.type.name, function)
        if other.call is not function.call:
            raise StartupError(
                f"node type {function.type.name!r} is declared twice: by "
                f"{_qualified_name(other)} and by {_qualified_name(function)}"
            )

    def get(self, name: str) -> NodeFunction | None:
        """Return the function of a node type, or None."""
        return self._by_name.get(name)

    @property
    def actors(self) -> list[NodeFunction]:
        """The functions that Dramatiq actors run."""
        return [function for function in self if function.is_actor]

    def is_actor(self, name: str, published: Mapping[str, NodeType]) -> bool | None:
        """Return whether actors run a node type; None if no worker has published it.

        Args:
            published: the node types that all workers have published: ``NodeTypeStore.all()``.
        """
        own = self._by_name.get(name)
        known = published.get(name) if own is None else own.type
        return None if known is None else known.actor


def load_registry(modules: str, http: HttpLimits = HttpLimits()) -> NodeRegistry:  # noqa: B008
    """Load the shipped node types, the user modules and all entry points.

    Args:
        modules: Python modules, separated by commas.
        http: what requests of the ``http`` node may reach and use.

    Raises:
        StartupError: a module cannot be imported or declares no node, or two functions have one
            name.
    """
    functions = [found for module in _SHIPPED_MODULES for found in _declared_in(module)]
    functions.extend(_http(http))
    for name in filter(None, (part.strip() for part in modules.split(","))):
        functions.extend(_from(name, lambda name=name: importlib.import_module(name)))
    for entry_point in entry_points(group=ENTRY_POINTS):
        functions.extend(_from(f"entry point {entry_point.name}", entry_point.load))
    return NodeRegistry(functions)


def _from(name: str, load: Any) -> list[NodeFunction]:
    try:
        loaded = load()
    # A user's module may raise anything, and the worker cannot start without it.
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise StartupError(
            f"cannot load nodes from {name}: {describe(error)}{_remedy(name, error)}"
        ) from error
    if (single := declared_node(loaded)) is not None:
        return [single]
    functions = list(_declared_in(loaded)) if isinstance(loaded, ModuleType) else []
    if not functions:
        raise StartupError(f"{name} declares no nodes: mark functions with @node")
    return functions


def _remedy(name: str, error: BaseException) -> str:
    # No advice for a missing dependency of the user's module: its packaging must declare it.
    if isinstance(error, ModuleNotFoundError) and error.name == name.partition(".")[0]:
        return "; install it, or put its folder on PYTHONPATH"
    return ""


def _http(limits: HttpLimits) -> Iterator[NodeFunction]:
    try:
        function = make_http_node(limits)
    except ValueError as error:
        raise SettingsError(f"TAILRACE_HTTP_ALLOW={limits.allow!r}: {error}") from None
    if (found := declared_node(function)) is not None:
        yield found


def _declared_in(module: ModuleType) -> Iterator[NodeFunction]:
    for name, value in vars(module).items():
        if (found := declared_node(value)) is not None:
            # functools.wraps copies the mark to a wrapper, but the worker would call the original.
            if found.call is not value:
                raise StartupError(
                    f"{module.__name__}.{name}: write @node above the function's other decorators"
                )
            yield found


def _qualified_name(function: NodeFunction) -> str:
    return f"{function.call.__module__}.{function.call.__qualname__}"
