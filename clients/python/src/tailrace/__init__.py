"""The ``tailrace`` command and Python client.

The client speaks HTTP to the API and nothing else; ``tailrace up`` starts the services of one
machine as processes.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tailrace.client import AsyncClient, AsyncRun, Client, Run
    from tailrace.documents import RunDocument, Step
    from tailrace.errors import (
        Problem,
        ProfileError,
        RefusedError,
        RunFailedError,
        TailraceError,
        UnreachableError,
    )
    from tailrace.stream import Event, ExecutionStream

__all__ = [
    "AsyncClient",
    "AsyncRun",
    "Client",
    "Event",
    "ExecutionStream",
    "Problem",
    "ProfileError",
    "RefusedError",
    "Run",
    "RunDocument",
    "RunFailedError",
    "Step",
    "TailraceError",
    "UnreachableError",
]

_MODULES = {
    "AsyncClient": "client",
    "AsyncRun": "client",
    "Client": "client",
    "Event": "stream",
    "ExecutionStream": "stream",
    "Problem": "errors",
    "ProfileError": "errors",
    "RefusedError": "errors",
    "Run": "client",
    "RunDocument": "documents",
    "RunFailedError": "errors",
    "Step": "documents",
    "TailraceError": "errors",
    "UnreachableError": "errors",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use: httpx would cost `tailrace up` half a second."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
