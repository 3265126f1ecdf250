"""The time limit of a request that a client waits for.

While a server of NATS is frozen, or a stream has no leader, each part of a request may take
seconds. A request that is not answered within the limit fails, and its client may repeat it: what
was stored is found again by its idempotency key, and the sweeper completes a start that was
interrupted.
"""

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any, Final, ParamSpec, TypeVar

from tailrace_shared.errors import UnavailableError

LIMIT_S: Final = 9.0

P = ParamSpec("P")
T = TypeVar("T")


def within_limit(
    request: Callable[P, Coroutine[Any, Any, T]],
) -> Callable[P, Coroutine[Any, Any, T]]:
    """Make a request raise ``UnavailableError`` if it takes longer than the limit."""

    @functools.wraps(request)
    async def limited(*args: P.args, **kwargs: P.kwargs) -> T:
        limit = asyncio.timeout(LIMIT_S)
        try:
            async with limit:
                return await request(*args, **kwargs)
        except TimeoutError:
            if not limit.expired():
                raise
            raise UnavailableError("NATS did not answer in time; repeat the request") from None

    return limited
