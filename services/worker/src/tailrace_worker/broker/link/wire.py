"""The bytes and subjects that the broker and JetStream exchange, apart from message bodies."""

from typing import Final, NamedTuple

ACK: Final = b"+ACK"
NAK: Final = b"-NAK"
IN_PROGRESS: Final = b"+WPI"

_ACK_ROOT: Final = "$JS.ACK."
#: Number of tokens in the older form of a reply subject, which has no domain and no account.
_SHORT_FORM_TOKENS: Final = 9


class Outgoing(NamedTuple):
    """A message to be written to the socket."""

    subject: str
    payload: bytes
    reply: str = ""
    headers: dict[str, str] | None = None


def pub_command(message: Outgoing) -> bytes:
    """Return the protocol line that publishes a message without headers."""
    subjects = f"{message.subject} {message.reply}" if message.reply else message.subject
    return b"PUB %s %d\r\n%s\r\n" % (subjects.encode(), len(message.payload), message.payload)


def nak_with_delay(seconds: float) -> bytes:
    """Return the answer that has a message delivered again after so many seconds."""
    return b'-NAK {"delay": %d}' % int(seconds * 1e9)


class DeliveryInfo(NamedTuple):
    """The fields of a delivered message's reply subject."""

    deliveries: int
    sequence: int
    timestamp: int

    @property
    def identity(self) -> tuple[int, int]:
        """The stored message. A stream that was created again may reuse a sequence alone."""
        return self.sequence, self.timestamp


def is_delivery(reply: str) -> bool:
    """Return whether a message with this reply subject comes from a JetStream consumer."""
    return reply.startswith(_ACK_ROOT)


def delivery_info(reply: str) -> DeliveryInfo:
    """Parse ``$JS.ACK.[domain.account.]stream.consumer.deliveries.sequence.….time.pending``."""
    tokens = reply.split(".")
    first = 4 if len(tokens) == _SHORT_FORM_TOKENS else 6
    return DeliveryInfo(int(tokens[first]), int(tokens[first + 1]), int(tokens[first + 3]))
