"""Whether NATS answers and stores, as this process has seen lately.

A connection that is open proves nothing: a server that is frozen, or behind a network that drops
packets, keeps it open for minutes. ``Pulse`` asks the server and notes when it last answered.
``StoreProbe`` stores a small message unless others were stored lately, and examines streams whose
publishes or reads failed. Readiness probes and metrics report what both have found.
"""

import asyncio
import contextlib
import time
from collections.abc import Iterable, Iterator
from typing import Final

import structlog
from nats.aio.client import Client

from tailrace_shared.errors import JetStreamError, StoreFailedError, UnavailableError
from tailrace_shared.nats.jetstream import STREAM_NOT_FOUND, JetStream
from tailrace_shared.nats.store_failures import root_of, store_record_of
from tailrace_shared.nats.topology import LEASES, StreamSpec, topology
from tailrace_shared.settings import CommonSettings
from tailrace_shared.subjects import Subjects

MAX_SILENCE_S: Final = 6.0
"""Silence after which a server counts as dead."""

_PING_INTERVAL_S: Final = 2.0
_PONG_TIMEOUT_S: Final = 2.0
# With the time limit of a publish, a store that has failed is known in less than ten seconds.
_STORE_INTERVAL_S: Final = 4.0
_STORE_CHECK_S: Final = 1.0
# With the time limit of a read, a leader that is missing is known in less than ten seconds.
_LEADER_TIMEOUT_S: Final = 3.0
# The second token of the subjects of streams that everything needs.
_ESSENTIAL: Final = frozenset({"log", "jobs"})
# Space for one message of the largest size.
_ROOM_BYTES: Final = 1024 * 1024
# In place of a wildcard: a token that no id contains.
_NO_ID: Final = "~"

_log = structlog.get_logger(__name__)


class Pulse:
    """Asks the server of one connection whether it is there. Lives on the connection's loop.

    Attributes:
        round_trip: seconds that the newest answer took.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._answered_at = time.monotonic()
        self.round_trip = 0.0

    @property
    def silence(self) -> float:
        """Seconds since the newest answer."""
        return time.monotonic() - self._answered_at

    @property
    def is_alive(self) -> bool:
        """Whether NATS is connected and has answered lately."""
        return self._client.is_connected and self.silence <= MAX_SILENCE_S

    def failure(self) -> str:
        """Return why NATS cannot be used, as a sentence; empty if it can."""
        if not self._client.is_connected:
            return "NATS is not connected"
        return "" if self.is_alive else f"NATS has not answered for {self.silence:.0f} s"

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            await self.ask()
            await asyncio.sleep(_PING_INTERVAL_S)

    async def ask(self) -> bool:
        """Ask now; return whether NATS answered within two seconds."""
        if not self._client.is_connected:
            return False
        pong = asyncio.get_running_loop().create_future()
        asked = time.monotonic()
        # nats-py raises any error if the connection breaks meanwhile.
        with contextlib.suppress(Exception):
            # nats-py's own flush cancels its future, and a late answer then ends its reader.
            await self._client._send_ping(pong)  # noqa: SLF001
            await asyncio.wait([pong], timeout=_PONG_TIMEOUT_S)
        if pong.done():
            self._answered_at = time.monotonic()
            self.round_trip = self._answered_at - asked
        return pong.done()


class StoreProbe:
    """Finds out whether JetStream stores messages, and answers reads.

    Args:
        jetstream: the connection.
        bucket: the bucket in which a small value is stored.
        specs: the streams of the installation.
    """

    def __init__(self, jetstream: JetStream, bucket: str, specs: Iterable[StreamSpec]) -> None:
        self._jetstream = jetstream
        self._record = store_record_of(jetstream.client)
        self._subject = f"$KV.{bucket}.health"
        self._specs = {root_of(spec.subjects[0]): spec for spec in specs}
        self._names = {spec.name for spec in self._specs.values()}
        self._failure = ""

    @property
    def seconds_since_stored(self) -> float:
        """Seconds since JetStream last confirmed a message of this process."""
        return time.monotonic() - self._record.stored_at

    @property
    def is_working(self) -> bool:
        """Whether JetStream stores messages, as far as is known."""
        return not self._failure

    def failure(self) -> str:
        """Return why JetStream cannot store, as a sentence; empty if it can."""
        return self._failure

    async def run(self) -> None:
        """Probe until cancelled."""
        while True:
            before, self._failure = self._failure, await self.probe()
            if self._failure and self._failure != before:
                _log.error("NATS cannot store", reason=self._failure)
            elif before and not self._failure:
                _log.info("NATS can store again")
            await asyncio.sleep(_STORE_CHECK_S)

    async def probe(self) -> str:
        """Return why JetStream cannot store, as a sentence; empty if it can."""
        failure = ""
        if self._failure or self.seconds_since_stored > _STORE_INTERVAL_S:
            failure = await self._store()
            # Known from now on: streams that do not answer take seconds to examine.
            self._failure = failure or self._failure
        # A stream says why it cannot store, so its reason is better than that of the message.
        return await self._examine() or failure

    async def _store(self) -> str:
        try:
            await self._jetstream.publish(self._subject, b"")
        except StoreFailedError as error:
            return f"NATS cannot store: {error}"
        except UnavailableError:
            return "NATS cannot store: it does not confirm messages"
        except JetStreamError as error:
            return f"NATS cannot store: {error}"
        return ""

    async def _examine(self) -> str:
        """Return what is wrong with the first stream that failed; forget those that work again."""
        roots, streams = list(self._record.doubts), list(self._record.unread)
        unstored, unread = await asyncio.gather(
            asyncio.gather(*map(self._failure_of_root, roots)),
            asyncio.gather(*map(self._failure_of_reads, streams)),
        )
        for root, failure in zip(roots, unstored, strict=True):
            if not failure:
                self._record.doubts.pop(root, None)
        for stream, failure in zip(streams, unread, strict=True):
            if not failure:
                self._record.unread.discard(stream)
        return next(filter(None, [*unstored, *unread]), "")

    async def _failure_of_reads(self, stream: str) -> str:
        """Return why the leader of a stream cannot be read; empty if it can."""
        if stream not in self._names:
            return ""
        try:
            async with asyncio.timeout(_LEADER_TIMEOUT_S):
                await self._jetstream.api(f"STREAM.INFO.{stream}")
        except JetStreamError as error:
            # A stream that does not exist is an error of the request that needs it.
            return "" if error.code == STREAM_NOT_FOUND else _no_leader(stream)
        except (UnavailableError, TimeoutError):
            return _no_leader(stream)
        return ""

    async def _failure_of_root(self, root: str) -> str:
        spec = self._specs.get(root)
        return "" if spec is None else await self._failure_of(spec)

    async def _failure_of(self, spec: StreamSpec) -> str:
        # Nothing matches the filter, so nothing is purged; but a stream whose store has failed
        # refuses every purge, with its reason, and one without a quorum does not answer.
        request = {"filter": _without_wildcards(spec.subjects[0])}
        try:
            await self._jetstream.api(f"STREAM.PURGE.{spec.name}", request)
            info = await self._jetstream.api(f"STREAM.INFO.{spec.name}")
        except JetStreamError as error:
            # The description begins with the path of a file, which is not for readers of a probe.
            return f"NATS cannot store: stream {spec.name}: {str(error).rpartition(': ')[2]}"
        except UnavailableError:
            return f"NATS cannot store: stream {spec.name} does not answer"
        used, limit = info["state"]["bytes"], info["config"]["max_bytes"]
        # Without another stream the rest works, and what needs it says why it does not.
        is_essential = spec.subjects[0].split(".")[1] in _ESSENTIAL
        if is_essential and limit > 0 and used > limit - min(_ROOM_BYTES, limit // 16):
            return (
                f"NATS cannot store: stream {spec.name} has {used} of {limit} bytes "
                "(TAILRACE_MAX_STORE_BYTES)"
            )
        return ""


class Health:
    """The health of NATS as one process sees it.

    Attributes:
        pulse: whether NATS answers.
        store: whether it stores.
    """

    def __init__(self, pulse: Pulse, store: StoreProbe) -> None:
        self.pulse = pulse
        self.store = store

    @classmethod
    def over(cls, jetstream: JetStream, settings: CommonSettings) -> "Health":
        """Return the health of NATS over one connection."""
        bucket = Subjects(settings.prefix).stream(LEASES)
        return cls(Pulse(jetstream.client), StoreProbe(jetstream, bucket, topology(settings)))

    def failures(self) -> Iterator[str]:
        """Yield why this process cannot work, one sentence each."""
        # A server that does not answer is not known to store or not to.
        if failure := self.pulse.failure() or self.store.failure():
            yield failure

    def gauges(self) -> Iterator[tuple[str, str, float]]:
        """Yield the names, descriptions and values of metrics."""
        pulse, store = self.pulse, self.store
        yield "tailrace_nats_connected", "Whether NATS answers (1) or not (0).", pulse.is_alive
        yield "tailrace_nats_stores", "Whether NATS stores messages (1) or not.", store.is_working
        yield "tailrace_nats_rtt_seconds", "Round trip of the last answered ping.", pulse.round_trip
        yield "tailrace_nats_silence_seconds", "Time since the last answered ping.", pulse.silence

    async def run(self) -> None:
        """Watch until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.pulse.run())
            tasks.create_task(self.store.run())


def _no_leader(stream: str) -> str:
    return f"NATS cannot read: the leader of stream {stream} does not answer"


def _without_wildcards(pattern: str) -> str:
    tokens = pattern.split(".")
    return ".".join(_NO_ID if token in {"*", ">"} else token for token in tokens)
