"""A topic: one execution in one dialect, as long as somebody follows it.

Live commits are encoded once into the topic's ring, in order and without a gap. What makes that
true is one task, the keeper. It subscribes, then asks the log where it ends: that sequence is the
edge from which the ring begins. A live commit that names the edge as its predecessor is appended
at once; any other only says that the log is further on, and the keeper reads up to there. So what
was lost on the way (Core NATS delivers at most once) and what came too early are one case, and
live commits need no buffer of their own.
"""

import asyncio
from typing import Final, NamedTuple, Protocol

import msgspec
import structlog

from tailrace_api.dialects.dialect import Dialect, EncodedCommit, encode_commit
from tailrace_api.fanout.ring import Ring
from tailrace_api.fanout.source import LiveCommit, LiveSource
from tailrace_shared.errors import JetStreamError, UnavailableError
from tailrace_shared.execution_log import ExecutionLog

_PAUSE: Final = 0.25

_log = structlog.get_logger("tailrace.api.fanout")


class View(NamedTuple):
    """What a connection looks at: an execution of a tenant, through a dialect."""

    dialect: Dialect
    tenant: str
    execution: str


class Follower(Protocol):
    """Whoever wants to know that a topic has something new."""

    def wake(self) -> None:
        """Look again."""

    def end(self) -> None:
        """Follow no more."""


class RingBounds(NamedTuple):
    """How much a ring may hold."""

    events: int
    bytes: int


class Topic:
    """The live end of an execution.

    Attributes:
        view: what it shows.
        followers: the connections that are woken.
        ring: None until the topic knows where the log ends.
    """

    def __init__(self, view: View, epoch: str, bounds: RingBounds) -> None:
        self.view = view
        self.followers: set[Follower] = set()
        self.ring: Ring | None = None
        self._epoch = epoch
        self._bounds = bounds
        # The highest sequence that the log is known to reach.
        self._known = 0
        self._behind = asyncio.Event()
        self._closed = False

    def receive(self, commit: LiveCommit) -> None:
        """Take a live commit."""
        ring = self.ring
        if ring is None or commit.previous > ring.edge:
            self.reach(commit.sequence)
        elif commit.sequence > ring.edge:
            self._append(ring, commit.sequence, commit.payload)
            self._wake()

    def reach(self, sequence: int) -> None:
        """Learn that the log reaches at least to ``sequence``."""
        if sequence > self._known:
            self._known = sequence
            self._behind.set()

    def close(self) -> None:
        """Make the keeper give everything back and end."""
        self._closed = True
        self._behind.set()

    async def keep(self, source: LiveSource, log: ExecutionLog, subject: str) -> None:
        """Keep the ring complete until the topic is closed."""
        # Not to be cancelled while it subscribes: a subscription that nobody holds is a leak.
        if not await self._listen(source, subject):
            return
        try:
            while not self._closed:
                self._behind.clear()
                try:
                    await self._catch_up(log)
                except (UnavailableError, JetStreamError):
                    await asyncio.sleep(_PAUSE)
                    continue
                await self._behind.wait()
        finally:
            await source.leave(subject, self.receive)

    async def _listen(self, source: LiveSource, subject: str) -> bool:
        while not self._closed:
            try:
                await source.listen(subject, self.receive)
            except UnavailableError:
                await asyncio.sleep(_PAUSE)
            else:
                return True
        return False

    async def _catch_up(self, log: ExecutionLog) -> None:
        ring = self.ring or await self._begin(log)
        while ring.edge < self._known and not self._closed:
            commits, _ = await log.page(self.view.tenant, self.view.execution, ring.edge + 1)
            for commit in commits:
                # While the page was read, live commits may have closed the gap themselves.
                if commit.sequence > ring.edge:
                    self._append(ring, commit.sequence, commit.payload)
            if not commits:
                # A replica of the log that lags behind the one that republished.
                await asyncio.sleep(_PAUSE)
            self._wake()

    async def _begin(self, log: ExecutionLog) -> Ring:
        last = await log.last_commit(self.view.tenant, self.view.execution)
        self.ring = Ring(
            last.sequence if last else 0,
            max_events=self._bounds.events,
            max_bytes=self._bounds.bytes,
        )
        self._wake()
        return self.ring

    def _append(self, ring: Ring, sequence: int, payload: bytes) -> None:
        ring.append(encode(self.view, self._epoch, sequence, payload))

    def _wake(self) -> None:
        for follower in self.followers:
            follower.wake()


def encode(view: View, epoch: str, sequence: int, payload: bytes) -> EncodedCommit:
    """Encode a commit; one that is none of ours becomes one without events."""
    try:
        return encode_commit(view.dialect, epoch, view.execution, sequence, payload)
    except msgspec.MsgspecError as error:
        # Somebody else writes to our log. What is legible is still worth streaming.
        _log.warning(
            "commit is illegible", execution=view.execution, sequence=sequence, error=str(error)
        )
        return EncodedCommit(sequence, (), False, b"")
