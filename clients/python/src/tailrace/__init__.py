"""The ``tailrace`` command and Python client.

The client speaks HTTP to the API and nothing else; ``tailrace up`` starts the services of one
machine as processes.
"""

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
