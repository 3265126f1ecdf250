"""One message as JetStream delivered it."""

from collections.abc import Callable

from nats.aio.msg import Msg

from tailrace_worker.broker.link.wire import delivery_info

Identity = tuple[int, int]


class Delivery:
    """One message as JetStream delivered it.

    Args:
        on_settled: called once, on the loop, when this process holds the message no longer.

    Attributes:
        identity: the stored message: its sequence and its time in the stream.
        deliveries: how often it has been delivered, this time included.
        is_set_aside: whether it is not to run now.
        is_dispatched: whether Dramatiq has it; otherwise it is still in the puller's surplus.
        reply: the subject for acknowledgements and heartbeats.
    """

    __slots__ = (
        "_on_settled",
        "data",
        "deliveries",
        "headers",
        "identity",
        "is_dispatched",
        "is_set_aside",
        "reply",
        "subject",
    )

    def __init__(self, message: Msg, on_settled: "Callable[[Delivery], None]") -> None:
        info = delivery_info(message.reply)
        self.identity: Identity = info.identity
        self.deliveries = info.deliveries
        self.reply = message.reply
        self.subject = message.subject
        self.data = message.data
        self.headers: dict[str, str] = message.headers or {}
        self.is_dispatched = False
        self.is_set_aside = False
        self._on_settled = on_settled

    def settle(self) -> None:
        """Notify the puller that this process holds the message no longer."""
        self._on_settled(self)
