"""Limit the executions of a tenant that have not ended, and those below one root.

**Live executions** are counted in the live index, at most once a second for each tenant and
process, and more often near the limit. In between, a process adds its own starts. So a start costs
nothing, and processes that start at once may exceed the limit by a second of starts.

**Descendants** of a root are counted exactly: the start of a child run is a message on the root's
subject of the stream DESCENDANTS, which refuses one beyond the limit. Only child runs cost that.
"""

import time
from collections.abc import Callable
from typing import Final

from tailrace_shared.caching.single_flight import SingleFlight
from tailrace_shared.caching.ttl_cache import TtlCache
from tailrace_shared.commands.subject_counter import SubjectCounter
from tailrace_shared.errors import TooManyDescendantsError, TooManyLiveRunsError
from tailrace_shared.nats.jetstream import JetStream
from tailrace_shared.nats.topology import DESCENDANTS, StreamSpec, nanoseconds
from tailrace_shared.settings import CommonSettings
from tailrace_shared.stores.indexes.live_index import LiveIndex
from tailrace_shared.subjects import Subjects

_COUNTED_FOR_S: Final = 1.0
_COUNTED_NEAR_LIMIT_FOR_S: Final = 0.1
_NEAR: Final = 0.9
_MAX_TENANTS: Final = 10_000
_DAY_S: Final = 86_400
_DUPLICATES_S: Final = 120


class _Count:
    def __init__(self, live: int, at: float) -> None:
        self.live = live
        self.at = at


class LiveRunLimit:
    """Refuses starts of tenants with too many live executions.

    Args:
        live: the index of live executions.
        limit: of each tenant.
        clock: returns the time in seconds.
    """

    def __init__(
        self, live: LiveIndex, limit: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._live = live
        self._limit = limit
        self._clock = clock
        self._counts: TtlCache[str, _Count] = TtlCache(_MAX_TENANTS)
        self._counting: SingleFlight[str, _Count] = SingleFlight()

    async def check(self, tenant: str) -> None:
        """Count a start that is about to happen.

        Raises:
            TooManyLiveRunsError: the tenant has too many live executions.
            UnavailableError: NATS did not answer.
        """
        count = self._counts.get(tenant)
        if count is None or self._is_old(count):
            count = await self._counting.run(tenant, lambda: self._recount(tenant))
        if count.live >= self._limit:
            raise TooManyLiveRunsError(self._limit)
        count.live += 1

    def _is_old(self, count: _Count) -> bool:
        is_near = count.live >= self._limit * _NEAR
        valid_for = _COUNTED_NEAR_LIMIT_FOR_S if is_near else _COUNTED_FOR_S
        return self._clock() - count.at > valid_for

    async def _recount(self, tenant: str) -> _Count:
        begun = self._clock()
        count = _Count(await self._live.count(tenant), begun)
        self._counts.put(tenant, count)
        return count


class DescendantLimit:
    """Counts the child runs below each root.

    Args:
        limit: of each root.
    """

    def __init__(
        self, jetstream: JetStream, subjects: Subjects, limit: int, *, replicas: int = 1
    ) -> None:
        self._subjects = subjects
        self._limit = limit
        spec = StreamSpec(
            name=subjects.stream(DESCENDANTS),
            subjects=[subjects.all_descendants()],
            discard="new",
            discard_new_per_subject=True,
            num_replicas=replicas,
            # A root that lives for longer may have more.
            max_age=nanoseconds(7 * _DAY_S),
            max_msgs_per_subject=limit,
            duplicate_window=nanoseconds(_DUPLICATES_S),
        )
        self._counter = SubjectCounter(jetstream, spec)

    async def prepare(self) -> None:
        """Create the stream, or update its limit.

        Raises:
            TopologyMismatchError: JetStream refuses the configuration.
        """
        await self._counter.prepare()

    async def count(self, tenant: str, root: str, child: str) -> None:
        """Count a child run that is about to start.

        Raises:
            TooManyDescendantsError: the root has too many descendants.
            UnavailableError: NATS did not answer.
        """
        if not await self._counter.count(self._subjects.descendants(tenant, root), child):
            raise TooManyDescendantsError(root, self._limit)

    async def forget(self, tenant: str, root: str) -> None:
        """Forget the descendants of a root that has ended.

        Raises:
            UnavailableError: NATS did not answer.
        """
        await self._counter.forget(self._subjects.descendants(tenant, root))


class StartLimits:
    """The limits on starts by any caller.

    Args:
        settings: the limits, and the number of replicas.

    Attributes:
        max_depth: how deep runs may be nested.
    """

    def __init__(
        self, jetstream: JetStream, subjects: Subjects, live: LiveIndex, settings: CommonSettings
    ) -> None:
        self.live = LiveRunLimit(live, settings.max_live_runs)
        self.descendants = DescendantLimit(
            jetstream, subjects, settings.max_descendants, replicas=settings.nats_replicas
        )
        self.max_depth = settings.max_run_depth
