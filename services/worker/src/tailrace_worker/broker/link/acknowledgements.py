"""What this process holds of the queue: heartbeats while it works, an answer when it is done.

From its arrival to its acknowledgement a message is *held*: a heartbeat tells JetStream every
third of the ack wait that somebody is at it, for as long as it takes. A process that dies stops
its heartbeats, and JetStream gives its messages to others within the ack wait.

Acks are sent in bunches and kept until the server has read them, so that a connection that breaks
at the wrong moment costs no second run. Should JetStream deliver again
what is running here, or what was finished here (its memory of the ack died with it), the second
delivery is answered and not run.
"""

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

import nats.errors

from tailrace_worker.broker.link.wire import ACK, IN_PROGRESS, NAK, Outgoing

if TYPE_CHECKING:
    from tailrace_worker.broker.link.connection import Connection

Identity = tuple[int, int]

#: Heartbeats a message gets within one ack wait: two may be lost without harm.
_BEATS: Final = 3
#: How long acks are gathered before the server is asked whether it has read them.
_CONFIRM_INTERVAL: Final = 0.05
#: Finished messages remembered, against redelivery by a server that forgot their acks.
_REMEMBERED: Final = 50_000


class Held(Protocol):
    """A message held by this process."""

    identity: Identity
    reply: str

    def settled(self) -> None:
        """Called once, on the loop, when the message is held no more."""


class Acknowledgements:
    """The messages that this process holds, and the answers on their way. Lives on the loop."""

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection
        self._held: dict[Identity, Held] = {}
        self._finished: dict[Identity, None] = {}
        self._unconfirmed: dict[str, None] = {}
        self._confirming: asyncio.Task[None] | None = None

    @property
    def held(self) -> int:
        """How many messages this process holds."""
        return len(self._held)

    def take(self, message: Held) -> bool:
        """Begin to hold a message that arrived; False if this delivery is not to be run."""
        identity = message.identity
        if identity in self._finished:
            self._acknowledge(message.reply)
            return False
        if running := self._held.get(identity):
            running.reply = message.reply  # only the newest delivery's heartbeats count
            self._connection.send(Outgoing(message.reply, IN_PROGRESS))
            return False
        self._held[identity] = message
        return True

    def finish(self, message: Held) -> None:
        """Acknowledge a message: it leaves the queue."""
        held = self._held.pop(message.identity, message)
        self._finished[held.identity] = None
        if len(self._finished) > _REMEMBERED:
            del self._finished[next(iter(self._finished))]
        self._acknowledge(held.reply)
        held.settled()

    def hand_back(self, message: Held) -> None:
        """Give a message back: JetStream delivers it to another worker at once."""
        held = self._held.pop(message.identity, None)
        if held is not None:
            # Never sent twice: by then somebody else may be at it.
            self._connection.send(Outgoing(held.reply, NAK))
            held.settled()

    async def hand_back_all(self) -> None:
        """Give back everything still held, when the connection closes."""
        for message in list(self._held.values()):
            self.hand_back(message)

    def resend_all(self) -> None:
        """Send again what the server may not have read, and a heartbeat for all that is held."""
        for reply in self._unconfirmed:
            self._connection.send(Outgoing(reply, ACK))
        self._beat()

    async def heartbeat(self) -> None:
        """Tell JetStream, again and again, that the held messages are being worked on."""
        while True:
            await asyncio.sleep(self._connection.options.ack_wait / _BEATS)
            self._beat()

    def _beat(self) -> None:
        for message in self._held.values():
            self._connection.send(Outgoing(message.reply, IN_PROGRESS))

    def _acknowledge(self, reply: str) -> None:
        self._unconfirmed[reply] = None
        self._connection.send(Outgoing(reply, ACK))
        if self._confirming is None or self._confirming.done():
            self._confirming = asyncio.get_running_loop().create_task(self._confirm())

    async def _confirm(self) -> None:
        # The server reads a connection in order: once it has answered a ping, it has read
        # everything that was sent before it.
        while self._unconfirmed:
            await asyncio.sleep(_CONFIRM_INTERVAL)
            sent = list(self._unconfirmed)
            try:
                is_read = await self._connection.flush()
            except (TimeoutError, nats.errors.Error, OSError):
                is_read = False
            if not is_read:
                return  # a reconnect sends them again
            for reply in sent:
                del self._unconfirmed[reply]
