"""Read how far a work queue has been delivered."""

from typing import Final

from tailrace_shared.errors import JetStreamError
from tailrace_shared.nats.jetstream import JetStream
from tailrace_shared.nats.topology import JOBS
from tailrace_shared.subjects import Subjects, queue_token

_NO_CONSUMER: Final = 10014


class QueueBacklog:
    """The messages of one queue that have not been delivered to any worker yet."""

    def __init__(self, jetstream: JetStream, subjects: Subjects, queue: str) -> None:
        self._jetstream = jetstream
        self._stream = subjects.stream(JOBS)
        self._subject = subjects.job(queue)
        # The broker names the consumer of a queue after the queue's subject token.
        self._consumer = queue_token(queue)

    async def oldest(self) -> float | None:
        """Return when the first of them was stored, in seconds since the epoch, or None."""
        request = {"seq": await self._last_delivered() + 1, "next_by_subj": self._subject}
        message = await self._jetstream.get_newest(self._stream, request)
        return None if message is None else message.time

    async def _last_delivered(self) -> int:
        try:
            info = await self._jetstream.api(f"CONSUMER.INFO.{self._stream}.{self._consumer}")
        except JetStreamError as error:
            if error.code != _NO_CONSUMER:
                raise
            return 0  # no worker has consumed the queue yet
        last: int = info["delivered"]["stream_seq"]
        return last
