"""The ``tailrace`` command and Python client.

The client speaks HTTP to the API and nothing else; ``tailrace up`` starts the services of one
machine as processes.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tailrace.client import Client
    from tailrace.errors import Problem, RefusedError, TailraceError, UnreachableError
    from tailrace.stream import Event, ExecutionStream

__all__ = [
    "Client",
    "Event",
    "ExecutionStream",
    "Problem",
    "RefusedError",
    "TailraceError",
    "UnreachableError",
]

_MODULES = {
    "Client": "client",
    "Event": "stream",
    "ExecutionStream": "stream",
    "Problem": "errors",
    "RefusedError": "errors",
    "TailraceError": "errors",
    "UnreachableError": "errors",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use: httpx would cost `tailrace up` half a second."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
