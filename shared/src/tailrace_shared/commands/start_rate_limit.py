"""Limit the runs that a tenant may start in a minute, across all API replicas.

A start is a message on the tenant's subject of a stream in memory. The stream drops messages after
a minute and refuses one beyond the limit. The server that orders the messages does the counting, so
two replicas cannot both take the last start.
"""

import asyncio
import math
import time
from typing import Final, Never

from tailrace_shared.errors import (
    JetStreamError,
    TemporarilyUnavailableError,
    TooManyRunsError,
    TopologyMismatchError,
    UnavailableError,
)
from tailrace_shared.nats.jetstream import STREAM_NAME_IN_USE, JetStream
from tailrace_shared.nats.topology import RATE, StreamSpec, nanoseconds
from tailrace_shared.subjects import Subjects

_MINUTE_S: Final = 60
_STORE_FAILED: Final = 10077
_MAX_TRIES: Final = 100
_PAUSE_S: Final = 0.02


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
        self._spec = StreamSpec(
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

    async def prepare(self) -> None:
        """Create the stream, or update its limit: its messages are not worth protecting.

        Raises:
            TopologyMismatchError: JetStream refuses the configuration.
        """
        request = self._spec.request()
        try:
            try:
                await self._jetstream.api(f"STREAM.CREATE.{self._spec.name}", request)
            except JetStreamError as error:
                if error.code != STREAM_NAME_IN_USE:
                    raise
                await self._jetstream.api(f"STREAM.UPDATE.{self._spec.name}", request)
        except JetStreamError as error:
            raise TopologyMismatchError(
                f"cannot set up stream {self._spec.name}: {error}"
            ) from None

    async def consume(self, tenant: str, request_id: str | None = None) -> None:
        """Count a start against the limit.

        Args:
            request_id: an id that repetitions of a request share, so that they count once; or None.

        Raises:
            TooManyRunsError: the tenant has reached its limit.
        """
        headers = None if request_id is None else {"Nats-Msg-Id": request_id}
        for _ in range(_MAX_TRIES):
            try:
                await self._jetstream.publish(self._subjects.rate(tenant), b"", headers)
            except TemporarilyUnavailableError:
                # For example, another replica is counting the same request.
                await asyncio.sleep(_PAUSE_S)
            except JetStreamError as error:
                await self._raise(error, tenant)
            else:
                return
        raise UnavailableError("NATS did not acknowledge a start for the rate limit")

    async def _raise(self, error: JetStreamError, tenant: str) -> Never:
        # JetStream has one code for every reason not to store a message.
        if error.code != _STORE_FAILED or "per subject" not in str(error):
            raise error
        raise TooManyRunsError(self._per_minute, await self._wait(tenant)) from None

    async def _wait(self, tenant: str) -> int:
        """Return the seconds until the tenant's oldest start leaves the window."""
        request = {"next_by_subj": self._subjects.rate(tenant), "seq": 1}
        oldest = await self._jetstream.get(self._spec.name, request)
        left = 0.0 if oldest is None else oldest.time + self._minute - time.time()
        # Clocks of two machines may differ, so the result is clamped.
        return min(max(math.ceil(left), 1), self._minute)
