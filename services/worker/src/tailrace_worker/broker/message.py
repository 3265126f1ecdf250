"""Encodes Dramatiq messages for JetStream, and decodes deliveries."""

from typing import Any, Final

from dramatiq import Message
from dramatiq.broker import MessageProxy
from dramatiq.errors import DecodeError

from tailrace_shared.nats.jobs import firing_id
from tailrace_worker.broker.link.delivery import Delivery

#: W3C trace context, also sent in the headers for consumers that do not decode the message.
TRACE_HEADERS: Final = ("traceparent", "tracestate")

#: Options that belong to a message's schedule and are not stored in the message. With ``eta``,
#: Dramatiq's worker would keep the message in memory.
_SCHEDULING_OPTIONS: Final = frozenset({"eta", "schedule_id"})


class NatsMessage(MessageProxy):
    """A message and its delivery.

    Attributes:
        deliveries: how often JetStream has delivered it, this time included.
    """

    def __init__(self, message: "Message[Any]", delivery: Delivery) -> None:
        super().__init__(message)
        self.delivery = delivery
        self.deliveries = delivery.deliveries

    @property
    def stored_at(self) -> float:
        """When JetStream stored it, in seconds since the epoch; for a delayed message when due."""
        return self.delivery.identity[1] / 1e9


def encode_message(message: "Message[Any]") -> bytes:
    """Return the bytes to store for a message."""
    if _SCHEDULING_OPTIONS.isdisjoint(message.options):
        return message.encode()
    options = {k: v for k, v in message.options.items() if k not in _SCHEDULING_OPTIONS}
    return Message(**{**message.asdict(), "options": options}).encode()


def trace_headers(message: "Message[Any]") -> dict[str, str]:
    """Return the headers that carry a message's trace context."""
    return {name: message.options[name] for name in TRACE_HEADERS if name in message.options}


def decode_message(delivery: Delivery) -> "Message[Any]":
    """Decode a delivered message, and set the options that its headers carry.

    Raises:
        DecodeError: it is not a Dramatiq message.
    """
    message: Message[Any] = Message.decode(delivery.data)
    if not _is_well_formed(message):
        raise DecodeError("the message's fields have the wrong types", delivery.data, None)
    for name in TRACE_HEADERS:
        if name in delivery.headers:
            message.options.setdefault(name, delivery.headers[name])
    if (firing := firing_id(delivery.headers)) is None:
        return message
    # All firings of a schedule have the same body, so the firing gives the id and the time.
    return message.copy(message_id=firing, message_timestamp=delivery.identity[1] // 1_000_000)


def _is_well_formed(message: "Message[Any]") -> bool:
    # The encoder does not check the types of these fields.
    expected = {"queue_name": str, "actor_name": str, "kwargs": dict, "options": dict}
    return all(isinstance(getattr(message, field), kind) for field, kind in expected.items())
