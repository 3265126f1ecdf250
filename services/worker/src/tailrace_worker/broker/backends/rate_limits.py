"""A rate-limiter backend on a JetStream key-value bucket.

Every change is a compare-and-set: JetStream stores it only if the key has not changed since it was
read. The loser of a race reads again. Dramatiq's limiters name their keys ``<limiter>@<moment>``.
All keys with the same part before the ``@`` form one group, and a change is fenced on the group. So
a sliding window is summed and changed atomically, and two processes cannot both take its last
slot.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from dramatiq.rate_limits import RateLimiterBackend

from tailrace_shared.errors import WrongLastSequenceError
from tailrace_worker.broker.backends.bucket import BrokerBucket, BucketConnector, key_token
from tailrace_worker.broker.broker import NatsBroker

_NOTIFIED: Final = b"notified"
#: The longest pause before the loser of a race reads again.
_MAX_PAUSE_S: Final = 0.01
#: How long a blocking call waits for the loop beyond its own timeout.
_CALL_MARGIN_S: Final = 10.0


class NatsRateLimiterBackend(RateLimiterBackend):
    """Stores the counts of rate limiters and barriers in NATS."""

    def __init__(self, broker: NatsBroker, *, bucket: str = "rate-limits") -> None:
        self._bucket = BucketConnector(broker.connector, bucket)

    def add(self, key: str, value: int, ttl: int) -> bool:
        """Set a key unless it exists; return whether it was set."""

        async def attempt(bucket: BrokerBucket) -> bool:
            current, fence = await bucket.get_fenced(_key(key))
            if current is None:
                await bucket.put(_key(key), _encode(value), ttl, fence)
            return current is None

        return self._change(attempt)

    def incr(self, key: str, amount: int, maximum: int, ttl: int) -> bool:
        """Add to a key unless that would exceed ``maximum``; return whether it was added."""
        return self._change(lambda bucket: _shift(bucket, key, amount, (None, maximum), ttl))

    def decr(self, key: str, amount: int, minimum: int, ttl: int) -> bool:
        """Subtract from a key unless that would go below ``minimum``; return whether it did."""
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
            # Called at each attempt, because the window moves with time.
            total = sum(_decode(values.get(_key(each))) for each in keys())
            value = _decode(values.get(_key(key))) + amount
            allowed = max(value, total + amount) <= maximum
            if allowed:
                await bucket.put(_key(key), _encode(value), ttl, fence)
            return allowed

        return self._change(attempt)

    def wait(self, key: str, timeout: int | None) -> bool:
        """Wait for a notification; return whether it came within ``timeout`` milliseconds."""
        connection, bucket = self._bucket.get()
        seconds = None if timeout is None else timeout / 1000
        call_timeout = None if seconds is None else seconds + _CALL_MARGIN_S
        notified = connection.call(lambda: bucket.wait(_key(key), seconds), timeout=call_timeout)
        return notified is not None

    def wait_notify(self, key: str, ttl: int) -> None:
        """Wake all waiters of a key, and those that begin to wait within ``ttl`` milliseconds."""
        connection, bucket = self._bucket.get()
        connection.call(lambda: bucket.put(_key(key), _NOTIFIED, ttl))

    def _change(self, attempt: Callable[[BrokerBucket], Awaitable[bool]]) -> bool:
        connection, bucket = self._bucket.get()

        async def until_fence_holds() -> bool:
            while True:
                try:
                    return await attempt(bucket)
                except WrongLastSequenceError:
                    await asyncio.sleep(random.uniform(0, _MAX_PAUSE_S))  # noqa: S311 - jitter, not cryptography

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
