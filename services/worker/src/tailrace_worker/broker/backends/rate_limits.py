"""A rate-limiter backend on a JetStream key-value bucket.

Every change is a fenced write: it holds only if nobody else has written since we read. Who loses
reads again. Dramatiq's limiters name their keys ``<limiter>@<moment>``; the part before the ``@``
is one group here, so that a sliding window is summed and changed under one fence, and two
processes can never both take its last place.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Final

from dramatiq.rate_limits import RateLimiterBackend

from tailrace_shared.errors import WrongLastSequenceError
from tailrace_worker.broker.backends.bucket import BrokerBucket, BucketConnector, key_token

if TYPE_CHECKING:
    from tailrace_worker.broker.broker import NatsBroker

_NOTIFIED: Final = b"notified"
#: Longest pause, in seconds, before the loser of a race reads again.
_PAUSE: Final = 0.01
#: What a blocking call waits for the answer beyond its own timeout, in seconds.
_MARGIN: Final = 10.0


class NatsRateLimiterBackend(RateLimiterBackend):
    """Keeps the counts of rate limiters and barriers in NATS.

    Args:
        broker: the broker whose connection to use.
        bucket: the bucket's name.
    """

    def __init__(self, broker: "NatsBroker", *, bucket: str = "rate-limits") -> None:
        self._bucket = BucketConnector(broker.connector, bucket)

    def add(self, key: str, value: int, ttl: int) -> bool:
        """Set a key unless it exists; tell whether it was set."""

        async def attempt(bucket: BrokerBucket) -> bool:
            current, fence = await bucket.get_fenced(_key(key))
            if current is None:
                await bucket.put(_key(key), _encode(value), ttl, fence)
            return current is None

        return self._change(attempt)

    def incr(self, key: str, amount: int, maximum: int, ttl: int) -> bool:
        """Add to a key unless that would exceed ``maximum``; tell whether it was done."""
        return self._change(lambda bucket: _shift(bucket, key, amount, (None, maximum), ttl))

    def decr(self, key: str, amount: int, minimum: int, ttl: int) -> bool:
        """Take from a key unless that would go below ``minimum``; tell whether it was done."""
        return self._change(lambda bucket: _shift(bucket, key, -amount, (minimum, None), ttl))

    def incr_and_sum(
        self,
        key: str,
        keys: Callable[[], Iterable[str]],
        amount: int,
        maximum: int,
        ttl: int,
    ) -> bool:
        """Add to a key unless the sum of ``keys`` would then exceed ``maximum``."""

        async def attempt(bucket: BrokerBucket) -> bool:
            values, fence = await bucket.get_group(_group(key))
            # Asked for again at each attempt: time goes on.
            total = sum(_decode(values.get(_key(each))) for each in keys())
            value = _decode(values.get(_key(key))) + amount
            allowed = max(value, total + amount) <= maximum
            if allowed:
                await bucket.put(_key(key), _encode(value), ttl, fence)
            return allowed

        return self._change(attempt)

    def wait(self, key: str, timeout: int | None) -> bool:
        """Wait for a notification; tell whether it came within ``timeout`` milliseconds."""
        connection, bucket = self._bucket.get()
        seconds = None if timeout is None else timeout / 1000
        patience = None if seconds is None else seconds + _MARGIN
        notified = connection.call(lambda: bucket.wait(_key(key), seconds), timeout=patience)
        return notified is not None

    def wait_notify(self, key: str, ttl: int) -> None:
        """Wake all who wait for a key, and who will within ``ttl`` milliseconds."""
        connection, bucket = self._bucket.get()
        connection.call(lambda: bucket.put(_key(key), _NOTIFIED, ttl))

    def _change(self, attempt: Callable[[BrokerBucket], Awaitable[bool]]) -> bool:
        connection, bucket = self._bucket.get()

        async def until_fence_holds() -> bool:
            while True:
                try:
                    return await attempt(bucket)
                except WrongLastSequenceError:
                    await asyncio.sleep(random.uniform(0, _PAUSE))  # noqa: S311 - no secret

        return connection.call(until_fence_holds)


async def _shift(
    bucket: BrokerBucket, key: str, amount: int, bounds: tuple[int | None, int | None], ttl: int
) -> bool:
    current, fence = await bucket.get_fenced(_key(key))
    value = _decode(current) + amount
    minimum, maximum = bounds
    if (minimum is not None and value < minimum) or (maximum is not None and value > maximum):
        return False
    await bucket.put(_key(key), _encode(value), ttl, fence)
    return True


def _group(key: str) -> str:
    return key_token(key.rpartition("@")[0] or key)


def _key(key: str) -> str:
    limiter, _, moment = key.rpartition("@")
    return f"{key_token(limiter)}.{key_token(moment)}" if limiter else f"{key_token(key)}._"


def _encode(value: int) -> bytes:
    return str(value).encode()


def _decode(data: bytes | None) -> int:
    return 0 if data is None else int(data)
