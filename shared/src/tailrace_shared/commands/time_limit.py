"""The time limit of a request that a client waits for.

While a server of NATS is frozen, or a stream has no leader, each part of a request may take
seconds. Within the limit the parts that are idempotent are repeated, so that an election costs a
client time and no error. A request that is not answered within the limit fails, and its client may
repeat it: what was stored is found again by its idempotency key, and the sweeper completes a start
that was interrupted.
"""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, ParamSpec, TypeVar

from tailrace_shared.errors import StoreFailedError, UnavailableError

LIMIT_S: Final = 9.0

_PAUSE_S: Final = 0.1

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


async def repeated(part: Callable[[bool], Awaitable[T]]) -> T:
    """Call a part of a request, and call it again while NATS is unavailable, up to the limit.

    Args:
        part: idempotent; called with whether it was called before.

    Raises:
        StoreFailedError: NATS cannot store; that may last, so it is not repeated.
        UnavailableError: NATS was unavailable for as long as the limit.
    """
    deadline = asyncio.get_running_loop().time() + LIMIT_S
    is_again = False
    while True:
        try:
            return await part(is_again)
        except StoreFailedError:
            raise
        except UnavailableError:
            if asyncio.get_running_loop().time() + _PAUSE_S > deadline:
                raise
        is_again = True
        await asyncio.sleep(_PAUSE_S)
