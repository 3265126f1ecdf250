"""The rate at which a tenant may start runs, the same whichever replica it asks.

A start is a message on the tenant's subject of a stream in memory, which forgets messages after a
minute and refuses one beyond the limit. So the server that orders the messages does the counting,
and no two replicas can each believe that theirs is the last that fits.
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

_MINUTE: Final = 60
_STORE_FAILED: Final = 10077
_TRIES: Final = 100
_PAUSE: Final = 0.02


class StartRateLimit:
    """Counts the starts of the last minute.

    Args:
        jetstream: where they are counted.
        subjects: those of the installation.
        per_minute: how many a tenant may start; at least one.
        replicas: copies of the stream.
        minute: how many seconds it has.
    """

    def __init__(
        self,
        jetstream: JetStream,
        subjects: Subjects,
        per_minute: int,
        *,
        replicas: int = 1,
        minute: int = _MINUTE,
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
            # A request that is repeated meanwhile is known by its key, and counts once.
            duplicate_window=nanoseconds(minute),
            allow_direct=True,
        )

    async def prepare(self) -> None:
        """Make sure of the stream, with this limit: unlike others it holds nothing to lose.

        Raises:
            TopologyMismatchError: JetStream does not take it.
            UnavailableError: JetStream does not answer.
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
        """Count a start.

        Args:
            tenant: who starts a run.
            request_id: what a repetition of the same request has, too; None if it has nothing.

        Raises:
            TooManyRunsError: the tenant has started as many as it may.
            UnavailableError: NATS did not answer.
        """
        headers = None if request_id is None else {"Nats-Msg-Id": request_id}
        for _ in range(_TRIES):
            try:
                await self._jetstream.publish(self._subjects.rate(tenant), b"", headers)
            except TemporarilyUnavailableError:
                # For example, another replica is counting the same request.
                await asyncio.sleep(_PAUSE)
            except JetStreamError as error:
                await self._raise(error, tenant)
            else:
                return
        raise UnavailableError("NATS did not say whether a start is counted")

    async def _raise(self, error: JetStreamError, tenant: str) -> Never:
        # One code for everything that keeps a stream from storing a message.
        if error.code != _STORE_FAILED or "per subject" not in str(error):
            raise error
        raise TooManyRunsError(self._per_minute, await self._wait(tenant)) from None

    async def _wait(self, tenant: str) -> int:
        """Return in how many seconds the tenant's oldest start is forgotten."""
        request = {"next_by_subj": self._subjects.rate(tenant), "seq": 1}
        oldest = await self._jetstream.get(self._spec.name, request)
        left = 0.0 if oldest is None else oldest.time + self._minute - time.time()
        # The clocks of two machines may differ.
        return min(max(math.ceil(left), 1), self._minute)
