"""The clock of NATS, as workers read it.

Timers are written down by one worker, kept by NATS and looked at by another, so all of them go by
one clock. A worker asks NATS for the time now and then and counts on by its own monotonic clock
in between: whatever its wall clock says, or is set to, moves no timer.
"""

import asyncio
import time
from datetime import datetime
from typing import Final

import structlog

from tailrace_shared.errors import JetStreamError, UnavailableError
from tailrace_shared.nats.jetstream import JetStream

_INTERVAL: Final = 30.0
# What one question is worth: less than the time that it takes on its way.
_TOLERANCE: Final = 0.005
_TELLING: Final = 1.0

_log = structlog.get_logger(__name__)


class Clock:
    """Tells the time of NATS.

    Args:
        jetstream: where to ask.
        stream: a stream that exists: JetStream tells the time with its state.
    """

    def __init__(self, jetstream: JetStream, stream: str) -> None:
        self._jetstream = jetstream
        self._stream = stream
        # The epoch's second at which the monotonic clock stood at zero.
        self._zero = time.time() - time.monotonic()

    def now(self) -> float:
        """Return the time in seconds since the epoch."""
        return self._zero + time.monotonic()

    async def run(self) -> None:
        """Go right until cancelled."""
        while True:
            await asyncio.sleep(_INTERVAL)
            try:
                await self.set()
            except (UnavailableError, JetStreamError) as error:
                _log.warning("clock not set", error=str(error))

    async def set(self) -> None:
        """Ask NATS for the time.

        Raises:
            UnavailableError: NATS did not answer.
        """
        asked = time.monotonic()
        answer = await self._jetstream.api(f"STREAM.INFO.{self._stream}")
        answered = time.monotonic()
        zero = datetime.fromisoformat(answer["ts"]).timestamp() - (asked + answered) / 2
        wrong = zero - self._zero
        # A question that was long on its way tells little.
        if abs(wrong) > max(_TOLERANCE, answered - asked):
            self._zero = zero
        if abs(wrong) > _TELLING:
            _log.warning("this machine's clock is wrong", seconds=round(-wrong, 3))
