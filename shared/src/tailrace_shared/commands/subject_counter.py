"""Count messages by subject in a stream, up to a limit that the stream enforces.

The server that orders the messages does the counting, so two processes cannot both take the last
place.
"""

import asyncio
from typing import Final

from tailrace_shared.errors import (
    JetStreamError,
    TemporarilyUnavailableError,
    TopologyMismatchError,
    UnavailableError,
)
from tailrace_shared.nats.jetstream import STREAM_NAME_IN_USE, JetStream
from tailrace_shared.nats.topology import StreamSpec

_STORE_FAILED: Final = 10077
_MAX_TRIES: Final = 100
_PAUSE_S: Final = 0.02


class SubjectCounter:
    """A stream that refuses messages beyond a number for each subject.

    Args:
        spec: the stream, with ``max_msgs_per_subject`` and ``discard_new_per_subject``.
    """

    def __init__(self, jetstream: JetStream, spec: StreamSpec) -> None:
        self._jetstream = jetstream
        self.spec = spec

    async def prepare(self) -> None:
        """Create the stream, or update its limit: its messages are not worth protecting.

        Raises:
            TopologyMismatchError: JetStream refuses the configuration.
        """
        request = self.spec.request()
        try:
            try:
                await self._jetstream.api(f"STREAM.CREATE.{self.spec.name}", request)
            except JetStreamError as error:
                if error.code != STREAM_NAME_IN_USE:
                    raise
                await self._jetstream.api(f"STREAM.UPDATE.{self.spec.name}", request)
        except JetStreamError as error:
            raise TopologyMismatchError(f"cannot set up stream {self.spec.name}: {error}") from None

    async def count(self, subject: str, message_id: str | None = None) -> bool:
        """Count one more; return whether it is within the limit.

        Args:
            message_id: an id that repetitions share, so that they count once; or None.

        Raises:
            UnavailableError: NATS did not answer.
        """
        headers = None if message_id is None else {"Nats-Msg-Id": message_id}
        for _ in range(_MAX_TRIES):
            try:
                await self._jetstream.publish(subject, b"", headers)
            except TemporarilyUnavailableError:
                # For example, another process is counting the same request.
                await asyncio.sleep(_PAUSE_S)
            except JetStreamError as error:
                # JetStream has one code for every reason not to store a message.
                if error.code == _STORE_FAILED and "per subject" in str(error):
                    return False
                raise
            else:
                return True
        raise UnavailableError(f"NATS did not acknowledge a message of {self.spec.name}")

    async def forget(self, subject: str) -> None:
        """Remove all messages of a subject.

        Raises:
            UnavailableError: NATS did not answer.
        """
        await self._jetstream.api(f"STREAM.PURGE.{self.spec.name}", {"filter": subject})
