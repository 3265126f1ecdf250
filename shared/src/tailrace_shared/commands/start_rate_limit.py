"""Limit the runs that a tenant may start in a minute, across all API replicas.

A start is a message on the tenant's subject of a stream in memory. The stream drops messages after
a minute and refuses one beyond the limit.
"""

import math
import time
from typing import Final

from tailrace_shared.commands.subject_counter import SubjectCounter
from tailrace_shared.errors import TooManyRunsError
from tailrace_shared.nats.jetstream import JetStream
from tailrace_shared.nats.topology import RATE, StreamSpec, nanoseconds
from tailrace_shared.subjects import Subjects

_MINUTE_S: Final = 60


class StartRateLimit:
    """Counts the starts of the last minute, for each tenant.

    Args:
        per_minute: the limit of each tenant; at least one.
        minute: the length of the window in seconds.
    """

    def __init__(
        self,
        jetstream: JetStream,
        subjects: Subjects,
        per_minute: int,
        *,
        replicas: int = 1,
        minute: int = _MINUTE_S,
    ) -> None:
        self._jetstream = jetstream
        self._subjects = subjects
        self._per_minute = per_minute
        self._minute = minute
        spec = StreamSpec(
            name=subjects.stream(RATE),
            subjects=[subjects.rates()],
            storage="memory",
            discard="new",
            discard_new_per_subject=True,
            num_replicas=replicas,
            max_age=nanoseconds(minute),
            max_msgs_per_subject=per_minute,
            # A repeated request has the same message id, and so counts once.
            duplicate_window=nanoseconds(minute),
            allow_direct=True,
        )
        self._counter = SubjectCounter(jetstream, spec)

    async def prepare(self) -> None:
        """Create the stream, or update its limit.

        Raises:
            TopologyMismatchError: JetStream refuses the configuration.
        """
        await self._counter.prepare()

    async def consume(self, tenant: str, request_id: str | None = None) -> None:
        """Count a start against the limit.

        Args:
            request_id: an id that repetitions of a request share, so that they count once; or None.

        Raises:
            TooManyRunsError: the tenant has reached its limit.
        """
        if not await self._counter.count(self._subjects.rate(tenant), request_id):
            raise TooManyRunsError(self._per_minute, await self._wait(tenant))

    async def _wait(self, tenant: str) -> int:
        """Return the seconds until the tenant's oldest start leaves the window."""
        request = {"next_by_subj": self._subjects.rate(tenant), "seq": 1}
        oldest = await self._jetstream.get(self._counter.spec.name, request)
        left = 0.0 if oldest is None else oldest.time + self._minute - time.time()
        # Clocks of two machines may differ, so the result is clamped.
        return min(max(math.ceil(left), 1), self._minute)
