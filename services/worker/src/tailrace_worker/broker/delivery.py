"""One message as JetStream delivered it, and the pace at which messages are finished."""

import time
from collections.abc import Callable
from typing import Final

from nats.aio.msg import Msg

from tailrace_worker.broker.link.wire import delivery_info

#: The surplus is what was finished in this time, but never more than so many messages.
_WINDOW: Final = 0.05
_LARGEST_SURPLUS: Final = 500
#: Time without a finished message after which there is no pace to speak of.
STALL: Final = 0.2


class Delivery:
    """One message as JetStream delivered it.

    Attributes:
        identity: the stored message: its sequence and time in the stream.
        deliveries: how often it has been delivered, this time included.
        given: whether Dramatiq has it, or it is still ours alone.
    """

    __slots__ = (
        "_settled",
        "data",
        "deliveries",
        "given",
        "headers",
        "identity",
        "reply",
        "subject",
    )

    def __init__(self, message: Msg, settled: "Callable[[Delivery], None]") -> None:
        info = delivery_info(message.reply)
        self.identity = info.identity
        self.deliveries = info.deliveries
        self.reply = message.reply
        self.subject = message.subject
        self.data = message.data
        self.headers: dict[str, str] = message.headers or {}
        self.given = False
        self._settled = settled

    def settled(self) -> None:
        """Tell whoever took it in that it is held no more."""
        self._settled(self)


class Throughput:
    """How many messages a consumer finishes in a moment, and so may have in store."""

    def __init__(self) -> None:
        self.surplus = 0
        self._count = 0
        self._since = 0.0
        self._last = 0.0

    def count(self) -> None:
        """Take note of a finished message."""
        self._count += 1
        self._last = time.monotonic()
        elapsed = self._last - self._since
        if elapsed >= _WINDOW:
            self.surplus = min(int(self._count * _WINDOW / elapsed), _LARGEST_SURPLUS)
            self._count, self._since = 0, self._last

    def has_stalled(self) -> bool:
        """Tell whether nothing was finished lately; then there shall be no surplus either."""
        if time.monotonic() - self._last < STALL:
            return False
        self.surplus = 0
        return True
