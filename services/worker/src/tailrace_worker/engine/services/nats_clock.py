"""Read the clock of NATS.

A timer is set by one worker, kept by NATS and read by another worker, so all must use one clock. A
worker asks NATS for the time every 30 seconds and counts with its own monotonic clock in between. A
wrong or adjusted wall clock of the worker moves no timer.
"""

import asyncio
import time
from datetime import datetime
from typing import Final

import structlog

from tailrace_shared.errors import JetStreamError, UnavailableError
from tailrace_shared.nats.jetstream import JetStream

_INTERVAL_S: Final = 30.0
# Accuracy of one question, unless its round trip takes longer.
_TOLERANCE_S: Final = 0.005
_WARN_S: Final = 1.0

_log = structlog.get_logger(__name__)


class Clock:
    """Returns the time of NATS.

    Args:
        stream: a stream that exists: JetStream reports the time with its state.
    """

    def __init__(self, jetstream: JetStream, stream: str) -> None:
        self._jetstream = jetstream
        self._stream = stream
        # Seconds since the epoch at which the monotonic clock stood at zero.
        self._zero = time.time() - time.monotonic()

    def now(self) -> float:
        """Return the time in seconds since the epoch."""
        return self._zero + time.monotonic()

    async def run(self) -> None:
        while True:
            await asyncio.sleep(_INTERVAL_S)
            try:
                await self.synchronize()
            except (UnavailableError, JetStreamError) as error:
                _log.warning("clock: synchronization failed", error=str(error))

    async def synchronize(self) -> None:
        asked = time.monotonic()
        answer = await self._jetstream.api(f"STREAM.INFO.{self._stream}")
        answered = time.monotonic()
        zero = datetime.fromisoformat(answer["ts"]).timestamp() - (asked + answered) / 2
        error = zero - self._zero
        # An error below the round trip of the question is within its accuracy.
        if abs(error) > max(_TOLERANCE_S, answered - asked):
            self._zero = zero
        if abs(error) > _WARN_S:
            _log.warning("clock: wall clock of this machine is off", seconds=round(-error, 3))
