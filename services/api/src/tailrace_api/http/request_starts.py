"""Start requests a few at a time, in turn for each caller.

Thousands of clients may send a request at the same moment, for example after a deployment. All of
their tasks in one iteration of the event loop would delay every other request by seconds. So each
iteration starts only a few, and callers that wait are served in turn. The loop accepts one
connection in an iteration: while it does, others wait in the kernel's queue, with that of a probe
somewhere among them. Until that queue is empty, one request starts in several iterations. The
headers that name a caller distinguish it; it is authenticated later, by the request itself.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

# A start takes less than a millisecond of CPU.
_AT_ONCE: Final = 4
_ACCEPTING_ITERATIONS: Final = 8
_NAMES: Final = frozenset({b"authorization", b"x-organization-id"})

Caller = tuple[bytes, ...]
Start = Callable[[], None]


class RequestStarts:
    """The requests of a server that have not been started yet."""

    def __init__(self) -> None:
        # By caller, in the order in which they are served.
        self._waiting: dict[Caller, deque[Start]] = {}
        # The number of requests that this iteration of the event loop may still start.
        self._left = _AT_ONCE
        self._is_scheduled = False
        self._has_accepted = False
        # The number of iterations in a row in which a connection was accepted.
        self._accepting = 0

    def note_connection(self) -> None:
        """Note that this iteration of the event loop has accepted a connection."""
        self._has_accepted = True
        self._schedule()

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def add(self, headers: Iterable[tuple[bytes, bytes]], start: Start) -> None:
        """Start a request, now or in one of the next iterations of the event loop."""
        if self._left and not self._waiting:
            self._left -= 1
            start()
        else:
            caller = tuple(value for name, value in headers if name in _NAMES)
            self._waiting.setdefault(caller, deque()).append(start)
        self._schedule()

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._run)

    def _run(self) -> None:
        self._is_scheduled, self._left = False, _AT_ONCE
        self._accepting = self._accepting + 1 if self._has_accepted else 0
        self._has_accepted = False
        # The first connection is not yet a queue of them.
        if self._accepting > 1:
            self._left = 0 if self._accepting % _ACCEPTING_ITERATIONS else 1
        if self._waiting or self._accepting:
            # First, so that a failing start does not leave the others waiting.
            self._schedule()
        while self._waiting and self._left:
            self._left -= 1
            self._next()()

    def _next(self) -> Start:
        caller = next(iter(self._waiting))
        starts = self._waiting.pop(caller)
        start = starts.popleft()
        if starts:
            # At the end of the line: each caller has one request at a time.
            self._waiting[caller] = starts
        return start
