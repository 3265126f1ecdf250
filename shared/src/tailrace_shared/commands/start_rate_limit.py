"""Limit what a tenant may do in a minute, across all API replicas: starts of runs, feed messages.

Each is a message on the tenant's subject of a stream in memory. The stream drops messages after a
minute and refuses one beyond the limit.
"""

import math
import time
from typing import ClassVar, Final

from tailrace_shared.commands.subject_counter import SubjectCounter
from tailrace_shared.errors import TooManyMessagesError, TooManyRunsError
from tailrace_shared.nats.jetstream import JetStream
from tailrace_shared.nats.topology import MESSAGE_RATE, RATE, StreamSpec, nanoseconds
from tailrace_shared.subjects import Subjects

_MINUTE_S: Final = 60


class _RateLimit:
    """Counts the requests of the last minute, for each tenant.

    Args:
        per_minute: the limit of each tenant; at least one.
        minute: the length of the window in seconds.

    Attributes:
        stream: the name of the stream that counts.
        error: the error of a request beyond the limit.
    """

    stream: ClassVar[str]
    error: ClassVar[type[TooManyRunsError | TooManyMessagesError]]

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
            name=subjects.stream(self.stream),
            subjects=[self._subject(subjects, None)],
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

    @staticmethod
    def _subject(subjects: Subjects, tenant: str | None) -> str:
        """Return the subject that counts the requests of a tenant; for None that of all."""
        raise NotImplementedError

    async def prepare(self) -> None:
        """Create the stream, or update its limit.

        Raises:
            TopologyMismatchError: JetStream refuses the configuration.
        """
        await self._counter.prepare()

    async def consume(self, tenant: str, request_id: str | None = None) -> None:
        """Count a request against the limit.

        Args:
            request_id: an id that repetitions of a request share, so that they count once; or None.

        Raises:
            TooManyRunsError, TooManyMessagesError: the tenant has reached its limit.
        """
        subject = self._subject(self._subjects, tenant)
        if not await self._counter.count(subject, request_id):
            raise self.error(self._per_minute, await self._wait(subject))

    async def _wait(self, subject: str) -> int:
        """Return the seconds until the tenant's oldest request leaves the window."""
        request = {"next_by_subj": subject, "seq": 1}
        oldest = await self._jetstream.get(self._counter.spec.name, request)
        left = 0.0 if oldest is None else oldest.time + self._minute - time.time()
        # Clocks of two machines may differ, so the result is clamped.
        return min(max(math.ceil(left), 1), self._minute)


class StartRateLimit(_RateLimit):
    """Counts the starts of runs."""

    stream = RATE
    error = TooManyRunsError

    @staticmethod
    def _subject(subjects: Subjects, tenant: str | None) -> str:
        return subjects.rates() if tenant is None else subjects.rate(tenant)


class MessageRateLimit(_RateLimit):
    """Counts the messages that are published to feeds."""

    stream = MESSAGE_RATE
    error = TooManyMessagesError

    @staticmethod
    def _subject(subjects: Subjects, tenant: str | None) -> str:
        return subjects.message_rate(tenant)
