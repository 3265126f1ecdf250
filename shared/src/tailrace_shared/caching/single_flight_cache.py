"""A read-through cache whose misses are single-flight."""

import time
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Final, Generic, TypeVar

from tailrace_shared.caching.single_flight import SingleFlight
from tailrace_shared.caching.ttl_cache import TtlCache

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_MAX_ENTRIES: Final = 1000


class SingleFlightCache(Generic[K, V]):
    """Caches results for a short time. Failures are not cached.

    Args:
        ttl_s: seconds for which a result is valid, counted from when its call began.
    """

    def __init__(self, ttl_s: float, max_entries: int = _MAX_ENTRIES) -> None:
        self._ttl_s = ttl_s
        self._cache: TtlCache[K, tuple[V]] = TtlCache(max_entries)
        self._flights: SingleFlight[K, V] = SingleFlight()

    async def get(self, key: K, make: Callable[[], Coroutine[Any, Any, V]]) -> V:
        """Return the cached result of a key; call ``make`` if there is none.

        Raises: what ``make`` raises.
        """
        cached = self._cache.get(key)
        if cached is not None:
            return cached[0]
        return await self._flights.run(key, lambda: self._make(key, make))

    async def _make(self, key: K, make: Callable[[], Coroutine[Any, Any, V]]) -> V:
        expires_at = time.monotonic() + self._ttl_s
        value = await make()
        self._cache.put(key, (value,), ttl_s=expires_at - time.monotonic())
        return value
