"""Open and end the streams of this process, and keep their topics complete.

It puts fan-out together: the stream runtime, the topic registry, the history and the connections.

Live commits can be lost: NATS reconnected, or it dropped messages because this process was slow.
Whenever that is reported, and otherwise at every heartbeat interval, the hub reads from the log how
far each topic must be, and tells the topics. If the log has lost commits that clients have seen, or
was recreated, it ends their streams; `tailrace_api.fanout.history.log_edges` explains when an
answer to that effect is believed.
"""

import asyncio
import contextlib
from typing import Final

import structlog

from tailrace_api.fanout.clients.client_writer import ClientWriter
from tailrace_api.fanout.clients.connection import ClientConnection
from tailrace_api.fanout.clients.drain import drain
from tailrace_api.fanout.clients.opening import StreamOpening
from tailrace_api.fanout.clients.stream_quota import StreamQuota
from tailrace_api.fanout.history.history import History
from tailrace_api.fanout.history.resume import Start
from tailrace_api.fanout.runtime.limits import StreamLimits, StreamTimes
from tailrace_api.fanout.runtime.stream_runtime import StreamRuntime
from tailrace_api.fanout.topics.live_subscription import LiveSubscription
from tailrace_api.fanout.topics.registry import TopicRegistry
from tailrace_api.fanout.topics.topic import TopicSources
from tailrace_api.fanout.views.view import View
from tailrace_shared.errors import JetStreamError, UnavailableError
from tailrace_shared.stores.log_records import LogEdge
from tailrace_shared.subjects import Subjects

_RETRY_S: Final = 0.25
# The part of the drain time in which streams are ended; in the rest, clients read the end.
_ENDING_SHARE: Final = 0.6

_log = structlog.get_logger("tailrace.api.fanout")


class Hub:
    """The streams of this process.

    Args:
        sources: what topics are read from.
        subscription: the live commits.
        subjects: the subjects of the installation.
        epoch: the epoch of the log.
        times: timing of streams.
        limits: resource limits of streams.

    Attributes:
        runtime: the services that streams share.
        topics: the live topics.
        history: reads history.
        quota: the number of open streams.
        counts: counters.
        is_draining: whether the process is ending all streams.
    """

    def __init__(
        self,
        sources: TopicSources,
        subscription: LiveSubscription,
        subjects: Subjects,
        epoch: str,
        times: StreamTimes,
        limits: StreamLimits,
    ) -> None:
        self.runtime = StreamRuntime(epoch, times, limits.backlog)
        self.topics = TopicRegistry(self.runtime, sources, subscription, subjects, limits)
        self.history = History(self.runtime, self.topics, sources, limits.reads)
        self.quota = StreamQuota(limits.streams, limits.tenant_streams)
        self.counts = self.runtime.counts
        self.is_draining = False
        self._log = sources.log
        subscription.on_regress = self.request_reconcile
        self._connections: set[ClientConnection] = set()
        # The spans of openings, if streams are traced.
        self._opened: dict[ClientConnection, str] = {}
        # Bound once, not once per connection.
        self._on_closed = self._forget
        self._all_closed = asyncio.Event()

    @property
    def sizes(self) -> tuple[int, int, int]:
        """The number of connections, topics and live subscriptions."""
        return len(self._connections), len(self.topics), self.topics.subscriptions

    def refusal(self, view: View) -> str:
        """Return why no stream of a view can be opened now, or an empty string."""
        if self.is_draining:
            return "draining"
        if not self.topics.is_connected:
            return "disconnected"
        tenant = view.part.tenant
        if reason := self.quota.refusal(tenant):
            return reason
        if self.runtime.load.is_high and self.quota.is_above_average(tenant):
            return "busy"
        return self.topics.refusal(view)

    def refuse(self, reason: str) -> int:
        """Count a refused stream; return the client's retry delay in milliseconds."""
        self.counts.refused[reason] += 1
        return self.runtime.retry_milliseconds()

    def connect(
        self, view: View, start: Start, writer: ClientWriter, until: float | None = None
    ) -> StreamOpening:
        """Open a stream.

        Args:
            view: what the stream shows.
            start: where the stream starts.
            writer: writes to the client.
            until: when the client's token expires, in seconds since the Unix epoch.

        Returns:
            The opening, which the caller must run.
        """
        connection = ClientConnection(
            self.runtime, self.topics, self._on_closed, view, start, writer, until
        )
        self.quota.acquire(view.part.tenant)
        self._connections.add(connection)
        self.counts.opened += 1
        self.counts.resets += bool(start.reset)
        if start.source:
            self.counts.resumes[start.source] += 1
        return StreamOpening(connection, self.history, start)

    def note_opened(self, connection: ClientConnection, seconds: float) -> None:
        """Record a span for the opening of a stream; its end is another one, as it lasts long."""
        if (tracing := self.runtime.tracing) is not None:
            part = connection.view.part
            attributes = {"tailrace.tenant": part.tenant, "tailrace.execution": part.execution}
            self._opened[connection] = tracing.short("stream open", attributes, seconds=seconds)

    def _forget(self, connection: ClientConnection) -> None:
        self._connections.discard(connection)
        opened = self._opened.pop(connection, "") if self._opened else ""
        if opened and (tracing := self.runtime.tracing) is not None:
            attributes = {"tailrace.reason": connection.reason}
            tracing.short("stream close", attributes, link=opened)
        self.quota.release(connection.view.part.tenant)
        if not self._connections:
            self._all_closed.set()

    def request_reconcile(self) -> bool:
        """Have all topics compared with the log soon; return False if already requested."""
        requested = self.runtime.reconcile_requested
        is_new = not requested.is_set()
        requested.set()
        return is_new

    async def reconcile_loop(self) -> None:
        """Compare topics with the log on request and every heartbeat interval; never return."""
        requested = self.runtime.reconcile_requested
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.runtime.times.heartbeat):
                    await requested.wait()
            requested.clear()
            try:
                await self._reconcile()
            except (UnavailableError, JetStreamError) as error:
                _log.warning("reconcile: cannot read the log", error=str(error))
                await asyncio.sleep(_RETRY_S)
                requested.set()

    async def _reconcile(self) -> None:
        edges = self.history.edges
        # Taken before the log is read: commits stored meanwhile must not look as if it had lost
        # them.
        floor = edges.floor
        edge = await edges.read()
        if edge.epoch != self.runtime.epoch:
            self._adopt(edge)
            return
        if edge.last_sequence < floor:
            self._end_beyond(edge.last_sequence)
        self.topics.note_edge(edge.last_sequence)
        topics = self.topics.executions()
        last = await self._log.last_sequences(topic.view.part for topic in topics)
        for topic in topics:
            topic.note_edge(last.get(topic.view.part, 0))

    def _adopt(self, edge: LogEdge) -> None:
        """Go on with a recreated log: ids and rings belong to an epoch.

        Clients reconnect and get a reset in the stream.
        """
        _log.warning("reconcile: log was recreated", epoch=edge.epoch, before=self.runtime.epoch)
        self.runtime.epoch = edge.epoch
        self._forget_above(edge.last_sequence)
        for connection in tuple(self._connections):
            connection.end("recreated")

    def _end_beyond(self, last_sequence: int) -> None:
        """End the streams that have shown commits that the log has lost."""
        _log.error("reconcile: log lost commits", last_sequence=last_sequence)
        self._forget_above(last_sequence)
        for topic in tuple(self.topics.all()):
            if topic.known_edge > last_sequence:
                topic.end("restored")
        self.topics.lower_edge(last_sequence)
        for connection in tuple(self._connections):
            if connection.sequence > last_sequence + 1:
                connection.end("restored")

    def _forget_above(self, last_sequence: int) -> None:
        self.history.edges.lower_floor(last_sequence)
        self.history.replay.forget()

    async def drain(self, seconds: float) -> None:
        """End all streams at a limited rate, then disconnect clients that have not left in time."""
        self.is_draining = True
        _log.info("drain: ending streams", streams=len(self._connections))
        try:
            async with asyncio.timeout(seconds):
                await drain(self._connections, seconds * _ENDING_SHARE)
                while self._connections:
                    self._all_closed.clear()
                    # Streams whose requests were already accepted may have opened meanwhile.
                    for connection in tuple(self._connections):
                        connection.end("drained")
                    await self._all_closed.wait()
        except TimeoutError:
            _log.warning("drain: disconnecting clients", streams=len(self._connections))
            for connection in tuple(self._connections):
                connection.abort()
