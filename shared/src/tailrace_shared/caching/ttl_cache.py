"""A cache with a weight limit and a time to live."""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, NamedTuple, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

CallLater = Callable[[float, Callable[[], None]], object]


class _Entry(NamedTuple, Generic[V]):
    value: V
    weight: int
    expires_at: float | None


class TtlCache(Generic[K, V]):
    """Keeps values within a total weight, and evicts the least recently used.

    The newest entry stays even if it exceeds the limit alone: its value is in memory anyway.

    Args:
        max_weight: the limit on the sum of all weights, in the caller's unit (bytes, nodes, count).
        ttl_s: seconds after which an entry expires; None for never.
        call_later: a loop's ``call_later``. With it, expired entries are evicted by a timer;
            without it, only when the cache is used.
        clock: returns the time in seconds.
    """

    def __init__(
        self,
        max_weight: int,
        ttl_s: float | None = None,
        *,
        call_later: CallLater | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_weight = max_weight
        self._ttl_s = ttl_s
        self._call_later = call_later
        self._clock = clock
        # Least recently used first. Without `get` that is also the order of expiry.
        self._entries: OrderedDict[K, _Entry[V]] = OrderedDict()
        self._weight = 0
        self._has_timer = False

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def weight(self) -> int:
        return self._weight

    def get(self, key: K) -> V | None:
        """Return the value of a key, which now counts as used, or None."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.expires_at is not None and entry.expires_at <= self._clock():
            self._remove(key)
            return None
        self._entries.move_to_end(key)
        return entry.value

    def put(self, key: K, value: V, weight: int = 1, ttl_s: float | None = None) -> None:
        """Set the value of a key; ``ttl_s`` overrides the cache's time to live."""
        self._remove(key)
        ttl_s = self._ttl_s if ttl_s is None else ttl_s
        expires_at = None if ttl_s is None else self._clock() + ttl_s
        self._entries[key] = _Entry(value, weight, expires_at)
        self._weight += weight
        self._evict()
        self._set_timer()

    def pop(self, key: K) -> V | None:
        self._evict()
        value = self.get(key)
        self._remove(key)
        return value

    def _evict(self) -> None:
        while self._entries:
            key, oldest = next(iter(self._entries.items()))
            is_too_heavy = self._weight > self._max_weight and len(self._entries) > 1
            has_expired = oldest.expires_at is not None and oldest.expires_at <= self._clock()
            if not is_too_heavy and not has_expired:
                return
            self._remove(key)

    def _remove(self, key: K) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._weight -= entry.weight

    def _set_timer(self) -> None:
        if self._call_later is None or self._ttl_s is None or self._has_timer or not self._entries:
            return
        self._has_timer = True
        self._call_later(self._ttl_s, self._on_timer)

    def _on_timer(self) -> None:
        self._has_timer = False
        self._evict()
        self._set_timer()
