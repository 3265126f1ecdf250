"""Subscribe over core NATS to the subjects that topics of this process follow.

JetStream republishes each stored commit with its sequence and the sequence of its predecessor on
the same subject. Core NATS delivers at most once. A listener that finds a gap between the two reads
the missing commits from the log; this module guarantees nothing.

Topics of one execution have a subject each; those of tenants share one for the whole log.
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
from tailrace_shared.execution.commit_status import STATE, WORKFLOW
from tailrace_shared.stores.log_records import is_newer

# Of one subscription: that of the whole log serves all tenants.
_PENDING_BYTES: Final = 32 * 1024 * 1024
# Time for which listeners are called before the event loop runs other tasks.
_SLICE_S: Final = 0.002

_log = structlog.get_logger("tailrace.api.fanout")


class LiveCommit(NamedTuple):
    """A republished commit.

    Attributes:
        previous: the stream sequence of its predecessor on the subject; 0 for the first.
        stored_at: when JetStream stored it, in seconds since the epoch.
        status_header: the header that summarizes the execution after it; empty if absent.
    """

    execution: str
    sequence: int
    previous: int
    payload: bytes
    stored_at: float
    workflow: str = ""
    is_newer: bool = False
    tenant: str = ""
    status_header: str = ""


Listener = Callable[[LiveCommit], bool | None]
"""Receives a commit; returns whether it needs the event loop to work off earlier commits."""


@dataclass(slots=True, eq=False)
class _Subject:
    source: "LiveSubscription"
    listeners: set[Listener] = field(default_factory=set)
    subscription: Subscription | None = None
    last_sequence: int = 0

    async def receive(self, message: Msg) -> None:
        headers = message.headers or {}
        if "Nats-Sequence" not in headers:
            return  # published directly by another client, so not in the log
        _, _, tenant, execution = headers["Nats-Subject"].rsplit(".", 3)
        commit = LiveCommit(
            execution,
            int(headers["Nats-Sequence"]),
            int(headers["Nats-Last-Sequence"]),
            message.data,
            datetime.fromisoformat(headers["Nats-Time-Stamp"]).timestamp(),
            headers.get(WORKFLOW, ""),
            is_newer(headers),
            tenant,
            headers.get(STATE, ""),
        )
        self._note(commit.sequence)
        until = time.perf_counter() + _SLICE_S
        for listener in tuple(self.listeners):
            if _call(listener, commit) or time.perf_counter() >= until:
                # Commits that arrive meanwhile queue in the subscription, in order.
                await asyncio.sleep(0)
                until = time.perf_counter() + _SLICE_S

    def _note(self, sequence: int) -> None:
        if sequence < self.last_sequence:
            # A stream publishes in order, so it may have been restored from older data.
            self.source.on_regress()
        self.last_sequence = sequence
        self.source.newest_seen = max(self.source.newest_seen, sequence)


def _call(listener: Listener, commit: LiveCommit) -> bool:
    try:
        return bool(listener(commit))
    except Exception:  # noqa: BLE001 - a bug in one listener must not affect the others
        # This listener will find a gap at the next commit.
        _log.exception("live commit: listener failed", sequence=commit.sequence)
        return False


class LiveSubscription:
    """Core NATS subscriptions, one per subject, shared by its listeners.

    Attributes:
        newest_seen: the highest stream sequence of all live commits.
        on_regress: called when a commit follows one with a higher sequence.
    """

    def __init__(self, client: Client) -> None:
        self.newest_seen = 0
        self.on_regress: Callable[[], object] = lambda: None
        self._client = client
        self._subjects: dict[str, _Subject] = {}

    def __len__(self) -> int:
        return len(self._subjects)

    @property
    def is_connected(self) -> bool:
        return self._client.is_connected

    async def subscribe(self, subject: str, listener: Listener) -> None:
        """Call ``listener`` with every commit that is republished on ``subject`` from now on.

        A read of the log that is requested after this call sees every commit that the listener
        does not receive, because both use one connection, in order.

        Raises:
            UnavailableError: NATS accepts no subscription now.
        """
        entry = self._subjects.get(subject)
        if entry is not None:
            entry.listeners.add(listener)
            return
        entry = self._subjects[subject] = _Subject(self, {listener})
        try:
            entry.subscription = await self._client.subscribe(
                subject, cb=entry.receive, pending_bytes_limit=_PENDING_BYTES
            )
        except nats.errors.Error as error:
            del self._subjects[subject]
            raise UnavailableError(f"cannot subscribe to {subject}: {error!r}") from error

    async def unsubscribe(self, subject: str, listener: Listener) -> None:
        """Stop calling ``listener``; the subscription ends with its last listener."""
        entry = self._subjects.get(subject)
        if entry is None:
            return
        entry.listeners.discard(listener)
        if entry.listeners:
            return
        del self._subjects[subject]
        if entry.subscription is not None and not self._client.is_closed:
            await entry.subscription.unsubscribe()
