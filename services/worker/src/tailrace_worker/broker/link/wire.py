"""What crosses the wire between the broker and JetStream, apart from the messages themselves."""

from typing import Final, NamedTuple

ACK: Final = b"+ACK"
NAK: Final = b"-NAK"
IN_PROGRESS: Final = b"+WPI"

#: The reply subjects of delivered messages; the older of the two forms has no domain and account.
_ACK_ROOT: Final = "$JS.ACK."
_SHORT_FORM: Final = 9


class Outgoing(NamedTuple):
    """A message for the socket."""

    subject: str
    payload: bytes
    reply: str = ""
    headers: dict[str, str] | None = None


def pub_command(message: Outgoing) -> bytes:
    """Return the protocol line that publishes a message without headers."""
    subjects = f"{message.subject} {message.reply}" if message.reply else message.subject
    return b"PUB %s %d\r\n%s\r\n" % (subjects.encode(), len(message.payload), message.payload)


class DeliveryInfo(NamedTuple):
    """What the reply subject of a delivered message says about it."""

    deliveries: int
    sequence: int
    timestamp: int

    @property
    def identity(self) -> tuple[int, int]:
        """The stored message: a sequence alone could come again in a stream made anew."""
        return self.sequence, self.timestamp


def is_delivery(reply: str) -> bool:
    """Tell whether a message with this reply subject was delivered by a JetStream consumer."""
    return reply.startswith(_ACK_ROOT)


def delivery_info(reply: str) -> DeliveryInfo:
    """Read ``$JS.ACK.[domain.account.]stream.consumer.deliveries.sequence.….timestamp.pending``."""
    tokens = reply.split(".")
    first = 4 if len(tokens) == _SHORT_FORM else 6
    return DeliveryInfo(int(tokens[first]), int(tokens[first + 1]), int(tokens[first + 3]))
