"""Read a connection a few times a second, as long as nothing is requested over it."""

import asyncio
from typing import Final, cast

from nats.aio.transport import TcpTransport

# An answer is not late if it comes within this time.
_ANSWER_S: Final = 0.05


class PacedTransport(TcpTransport):
    """A connection to NATS that waits between two reads.

    A process that sleeps between any two messages spends most of its CPU time on waking up. So
    after each read this connection waits for the interval, and the kernel keeps what arrives
    meanwhile. What arrives after a longer pause is read at once, and so is everything after the
    client has sent something: that may be a request.

    Args:
        interval: seconds between two reads.
    """

    def __init__(self, interval: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._interval = interval
        self._may_read = asyncio.Event()
        self._sent_at = float("-inf")

    def __bool__(self) -> bool:
        """Return true, or nats-py would replace this transport before it has connected."""
        return True

    def write(self, payload: bytes) -> None:
        """Send bytes, and read the answer at once."""
        self._note_sent()
        super().write(payload)  # type: ignore[no-untyped-call]

    def writelines(self, payload: list[bytes]) -> None:
        """Send bytes, and read the answer at once."""
        self._note_sent()
        super().writelines(payload)  # type: ignore[no-untyped-call]

    async def read(self, buffer_size: int) -> bytes:
        """Read once the interval is over, or the client has sent something."""
        if asyncio.get_running_loop().time() - self._sent_at > _ANSWER_S:
            await self._wait()
        data: bytes = await super().read(buffer_size)
        return data

    def _note_sent(self) -> None:
        self._sent_at = asyncio.get_running_loop().time()
        self._may_read.set()

    async def _wait(self) -> None:
        if self._io_writer is None:
            return
        transport = cast("asyncio.Transport", self._io_writer.transport)
        self._may_read.clear()
        # The event loop would wake up for what arrives, only to keep it.
        transport.pause_reading()
        timer = asyncio.get_running_loop().call_later(self._interval, self._may_read.set)
        try:
            await self._may_read.wait()
        finally:
            timer.cancel()
            if not transport.is_closing():
                transport.resume_reading()
