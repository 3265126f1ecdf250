"""The live source: core NATS subscriptions to the subjects that have listeners here.

JetStream republishes each stored commit with its sequence and with the sequence of the commit
before it on the same subject. Core NATS delivers at most once, so a listener that finds a gap
between the two reads what is missing from the log; the source itself promises nothing.

A busy tenant may have hundreds of topics, which all listen to the same subject. They are called a
few at a time, so that nobody waits long for the event loop.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, NamedTuple

import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from tailrace_shared.errors import UnavailableError
from tailrace_shared.execution.commit_status import WORKFLOW
from tailrace_shared.stores.execution_log import is_newer

_PENDING_BYTES: Final = 8 * 1024 * 1024
# How long listeners are called before everybody else gets a turn, in seconds.
_SLICE: Final = 0.002

_log = structlog.get_logger("tailrace.api.fanout")


class LiveCommit(NamedTuple):
    """A commit as it was republished.

    Attributes:
        execution: whose it is.
        sequence: its stream sequence.
        previous: the stream sequence of the commit before it on its subject; 0 for the first.
        payload: a JSON array of events.
        stored_at: when JetStream stored it, in seconds since the epoch.
        workflow: the execution's workflow; empty where an older version wrote the commit.
        is_newer: whether a newer version of Tailrace wrote it.
    """

    execution: str
    sequence: int
    previous: int
    payload: bytes
    stored_at: float
    workflow: str = ""
    is_newer: bool = False


Listener = Callable[[LiveCommit], bool | None]
"""Is called with a commit; returns whether it needs time for all that it has been given."""


@dataclass(slots=True, eq=False)
class _Feed:
    listeners: set[Listener] = field(default_factory=set)
    subscription: Subscription | None = None

    async def receive(self, message: Msg) -> None:
        headers = message.headers or {}
        if "Nats-Sequence" not in headers:
            return  # somebody published here by hand; the log knows nothing of it
        commit = LiveCommit(
            headers["Nats-Subject"].rpartition(".")[2],
            int(headers["Nats-Sequence"]),
            int(headers["Nats-Last-Sequence"]),
            message.data,
            datetime.fromisoformat(headers["Nats-Time-Stamp"]).timestamp(),
            headers.get(WORKFLOW, ""),
            is_newer(headers),
        )
        until = time.perf_counter() + _SLICE
        for listener in tuple(self.listeners):
            if _tell(listener, commit) or time.perf_counter() >= until:
                # What is committed meanwhile waits in the subscription, in order.
                await asyncio.sleep(0)
                until = time.perf_counter() + _SLICE


def _tell(listener: Listener, commit: LiveCommit) -> bool:
    try:
        return bool(listener(commit))
    except Exception:  # noqa: BLE001 - a bug of ours
        # The others listen, too; this one will find a gap.
        _log.exception("live commit failed", sequence=commit.sequence)
        return False


class LiveSubscription:
    """One core subscription for each subject, however many listen to it."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._feeds: dict[str, _Feed] = {}

    def __len__(self) -> int:
        return len(self._feeds)

    @property
    def is_connected(self) -> bool:
        """Whether NATS can be reached now."""
        return self._client.is_connected

    async def listen(self, subject: str, listener: Listener) -> None:
        """Call ``listener`` with every commit that is republished on ``subject`` from now on.

        A read of the log that is asked for after this call sees all that the listener will not:
        both travel over one connection, in order.

        Raises:
            UnavailableError: the connection to NATS does not take a subscription now.
        """
        feed = self._feeds.get(subject)
        if feed is not None:
            feed.listeners.add(listener)
            return
        feed = self._feeds[subject] = _Feed({listener})
        try:
            feed.subscription = await self._client.subscribe(
                subject, cb=feed.receive, pending_bytes_limit=_PENDING_BYTES
            )
        except nats.errors.Error as error:
            del self._feeds[subject]
            raise UnavailableError(f"cannot subscribe to {subject}: {error!r}") from error

    async def leave(self, subject: str, listener: Listener) -> None:
        """Stop calling ``listener``; the last one to leave takes the subscription along."""
        feed = self._feeds.get(subject)
        if feed is None:
            return
        feed.listeners.discard(listener)
        if feed.listeners:
            return
        del self._feeds[subject]
        if feed.subscription is not None and not self._client.is_closed:
            await feed.subscription.unsubscribe()
