"""Messages that clients publish to the feed of a tenant.

They are commits of the log EVENTS, under a subject that no execution has. So the feed shows them
between the events of executions, in one order on all replicas, and resumes over them. They are
deleted once they are older than the retention.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from tailrace_shared.errors import TemporarilyUnavailableError
from tailrace_shared.execution.commit_status import STATE, WORKFLOW, CommitStatus
from tailrace_shared.execution.timestamps import format_timestamp
from tailrace_shared.ids import new_token
from tailrace_shared.nats.jetstream import MESSAGE_ID, JetStream, subject_counts
from tailrace_shared.nats.read_backwards import read_backwards
from tailrace_shared.nats.topology import EVENTS
from tailrace_shared.stores.horizon_store import HorizonStore
from tailrace_shared.subjects import FEED, Subjects

MESSAGE_TYPE: Final = "feed:message"
"""The type of the event that carries a message."""
MAX_MESSAGE_BYTES: Final = 16 * 1024
"""The maximum size of a message, as JSON."""

# Readers that look for executions skip what belongs to no workflow that they know, and has ended.
_HEADERS: Final = {WORKFLOW: FEED, STATE: str(CommitStatus("completed"))}
_PUBLISH_TRIES: Final = 5


class FeedMessages:
    """Stores messages, and deletes old ones."""

    def __init__(self, jetstream: JetStream, subjects: Subjects, horizons: HorizonStore) -> None:
        self._jetstream = jetstream
        self._subjects = subjects
        self._horizons = horizons
        self._stream = subjects.stream(EVENTS)

    async def publish(self, tenant: str, message: Mapping[str, Any], now: float) -> int:
        """Store a message; return its sequence.

        Args:
            tenant: the tenant.
            message: its fields, with the name of its block as ``type``.
            now: the time in seconds since the epoch.

        Raises:
            UnavailableError: NATS did not answer; the message may or may not be stored.
        """
        event = {"type": MESSAGE_TYPE, "data": message, "timestamp": format_timestamp(now)}
        payload = msgspec.json.encode([event])
        # A message whose acknowledgement was lost is sent again, and must not be stored twice.
        headers = {**_HEADERS, MESSAGE_ID: new_token()}
        subject = self._subjects.feed(tenant)
        for _ in range(_PUBLISH_TRIES):
            try:
                return await self._jetstream.publish(subject, payload, headers)
            except TemporarilyUnavailableError:
                continue
        return await self._jetstream.publish(subject, payload, headers)

    async def sweep(self, latest: float) -> int:
        """Delete the messages that were stored before a time; return of how many tenants.

        Args:
            latest: seconds since the epoch, by the clock of NATS.

        Raises:
            UnavailableError: NATS did not answer; the next sweep continues.
        """
        deleted = 0
        counts = await subject_counts(self._jetstream, self._stream, self._subjects.feed(None))
        for subject in counts:
            tenant, _ = self._subjects.execution_of(subject)
            last = await self._last_before(subject, latest)
            if last:
                # First: a reader that finds a gap must find the horizon as well.
                await self._horizons.raise_to(tenant, last)
                request = {"filter": subject, "seq": last + 1}
                await self._jetstream.api(f"STREAM.PURGE.{self._stream}", request)
                deleted += 1
        return deleted

    async def _last_before(self, subject: str, latest: float) -> int:
        """Return the sequence of the last message that was stored before a time, or 0."""
        start = format_timestamp(max(latest, 0.0))
        request = {"batch": 1, "start_time": start, "next_by_subj": subject}
        page, _ = await self._jetstream.batch(self._stream, request)
        before = page[0].sequence if page else None
        found = await read_backwards(self._jetstream, self._stream, subject, 1, before=before)
        # A message that was stored since the first read is not old.
        return next((message.sequence for message in found if message.time < latest), 0)
