"""Follow the log of an execution whose steps this worker runs but which it does not drive.

All attempts of one execution on this worker share one log: it is read once, then kept up to date by
republished commits. After the last of them has ended it is cached for a while, so that the next
attempt only reads what is new. Appends are fenced on what has been read. One that loses its fence
reads on and checks whether it is still wanted. Appends name no writer, so the driver stays the
driver.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Final

import nats.errors
import structlog
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from tailrace_shared.caching.ttl_cache import TtlCache
from tailrace_shared.errors import ExecutionNotFoundError, ServiceError, WrongLastSequenceError
from tailrace_shared.execution.commit_status import STATE, WORKFLOW
from tailrace_shared.execution.commits import decode_commit, encode_commits, events_version
from tailrace_shared.execution.events import Event, referenced_output_bytes
from tailrace_shared.execution.state import ExecutionState
from tailrace_shared.nats.fenced_append import VERSION, append
from tailrace_shared.nats.topology import EVENTS
from tailrace_worker.engine.services.engine_services import EngineServices
from tailrace_worker.engine.tasks.execution_cache import execution_cache, memory_of
from tailrace_worker.engine.tasks.retry import retry_forever

_LAG_PAUSE_S: Final = 0.05
# A shorter log is read again at once, and most executions end soon after the step of an actor.
_MIN_CACHED_BYTES: Final = 16 * 1024

_log = structlog.get_logger(__name__)


class LiveLog:
    """One execution's log and its folded state. Lives on the engine's loop.

    Attributes:
        state: the execution, kept up to date in place.
        last_writer: the worker that drives it, by the last commit that names a writer.
        size: size of the log in bytes, with outputs that are stored outside it.
    """

    state: ExecutionState

    def __init__(self, services: EngineServices, tenant: str, execution: str) -> None:
        self._services = services
        self._tenant = tenant
        self._execution = execution
        self._last_sequence = 0
        self._newest_seen = 0
        self._reading = asyncio.Lock()
        self._listeners: set[Callable[[], None]] = set()
        self._subscription: Subscription | None = None
        self._catching_up: asyncio.Task[None] | None = None
        # Whether the state is that of the last sequence: no commit is half applied.
        self._is_consistent = False
        self.last_writer = ""
        self.users = 0
        self.size = 0

    async def open(self) -> None:
        """Read the log, or what is new in it, and begin to follow it. Idempotent.

        Raises:
            ExecutionNotFoundError: there is no such execution, or part of its log has expired.
        """
        async with self._reading:
            is_new = self._subscription is None
            if self._subscription is None:
                self._subscription = await self._services.subscribe_live(
                    self._tenant, self._execution, self._on_commit
                )
            if not self._is_consistent:
                await self._load()
            elif is_new:
                await self._read_on(0)

    async def _load(self) -> None:
        # The message of an attempt shows that there is a log, or was.
        history = await retry_forever(
            lambda: self._services.stores.log.load(self._tenant, self._execution, at_least=1)
        )
        self.state, self._last_sequence = history.state, history.last_sequence
        self.last_writer, self.size = history.last_writer, history.size
        self._is_consistent = True

    @property
    def is_reusable(self) -> bool:
        """Whether what was read is worth caching for another attempt."""
        is_long = self.size >= _MIN_CACHED_BYTES
        return is_long and self._is_consistent and not self.state.is_terminal

    async def close(self) -> None:
        """Stop following the log until it is opened again."""
        if self._catching_up is not None:
            self._catching_up.cancel()
            # A task keeps its context, and with it the message that was current at its start.
            self._catching_up = None
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            with contextlib.suppress(nats.errors.Error):
                await subscription.unsubscribe()

    @contextlib.contextmanager
    def watching(self, changed: Callable[[], None]) -> Iterator[None]:
        """Call ``changed`` whenever the state has changed, during the ``with`` block."""
        self._listeners.add(changed)
        try:
            yield
        finally:
            self._listeners.discard(changed)

    async def refresh(self) -> None:
        """Read everything that the stream's leader has.

        Raises:
            ExecutionNotFoundError: the log is gone.
        """
        # Other tasks may read on while the leader is asked.
        newest = await self._newest(self._last_sequence)
        async with self._reading:
            await self._read_on(newest)

    async def append(
        self, events: Sequence[Event], is_wanted: Callable[[ExecutionState], bool]
    ) -> bool:
        """Append events, however long NATS is away; False if they are no longer wanted.

        Args:
            events: what to append; if they are too large for one commit, the first may be stored
                although the rest is not.
            is_wanted: called with the very state that the events are appended to.

        Raises:
            ExecutionNotFoundError: the log is gone.
        """
        for payload in encode_commits(events):
            async with self._reading:
                if not await self._append(payload, is_wanted):
                    return False
        return True

    async def _append(self, payload: bytes, is_wanted: Callable[[ExecutionState], bool]) -> bool:
        while is_wanted(self.state):
            try:
                sequence = await append(
                    self._services.jetstream,
                    self._services.subjects.stream(EVENTS),
                    self._services.subjects.log(self._tenant, self._execution),
                    payload,
                    expected=self._last_sequence,
                    # Events of an attempt change neither the status of the execution nor its waits
                    # for signals.
                    headers={
                        WORKFLOW: self.state.workflow_id,
                        STATE: str(self.state.commit_status),
                        VERSION: str(events_version(self.state)),
                    },
                    retry_s=float("inf"),
                )
            except WrongLastSequenceError as lost:
                last = lost.last or 0
                await self._read_on(last if last > self._last_sequence else self._last_sequence + 1)
            else:
                self._services.counts.note_stored(self._apply(sequence, payload), None)
                return True
        return False

    async def _newest(self, at_least: int) -> int:
        """Return the newest sequence of the log, as the stream's leader has it.

        Args:
            at_least: a sequence that was seen in the log.

        Raises:
            ExecutionNotFoundError: the log is gone.
        """
        newest = await retry_forever(
            lambda: self._services.stores.log.last_commit(self._tenant, self._execution, at_least)
        )
        if newest is None:
            raise ExecutionNotFoundError(f"the log of {self._execution!r} is gone")
        return newest.sequence

    async def _read_on(self, known: int) -> None:
        """Read what others have appended, up to the sequence ``known`` if it is stored.

        Raises:
            ExecutionNotFoundError: the log is gone.
        """
        heard = self._newest_seen
        known = max(known, heard)
        await retry_forever(self._read)
        while self._last_sequence < known:
            # A replica lags, or NATS has lost commits that it had confirmed, as with full disks.
            known = await self._newest(known)
            if known < self._last_sequence:
                _log.error("NATS has lost commits", tenant=self._tenant, execution=self._execution)
                self._is_consistent = False
                await self._load()
                self._notify()
            elif known > self._last_sequence:
                await asyncio.sleep(_LAG_PAUSE_S)
                await retry_forever(self._read)
        if self._newest_seen == heard:
            self._newest_seen = min(heard, self._last_sequence)

    async def _read(self) -> None:
        after = self._last_sequence + 1
        async for commit in self._services.stores.log.read(self._tenant, self._execution, after):
            self.last_writer = commit.writer or self.last_writer
            self._apply(commit.sequence, commit.payload)

    def _apply(self, sequence: int, payload: bytes) -> list[Event]:
        self._is_consistent = False
        events = decode_commit(payload)
        for event in events:
            self.state.apply(event)
        self._last_sequence, self._is_consistent = sequence, True
        self.size += len(payload) + referenced_output_bytes(events)
        self._notify()
        return events

    def _notify(self) -> None:
        for changed in list(self._listeners):
            changed()

    async def _on_commit(self, message: Msg) -> None:
        sequence = int((message.headers or {}).get("Nats-Sequence", "0"))
        self._newest_seen = max(self._newest_seen, sequence)
        is_new = self._subscription is not None and self._newest_seen > self._last_sequence
        if is_new and (self._catching_up is None or self._catching_up.done()):
            self._catching_up = self._services.loop.create_task(self._catch_up())

    async def _catch_up(self) -> None:
        try:
            while self._newest_seen > self._last_sequence:
                async with self._reading:
                    if self._newest_seen > self._last_sequence:
                        await self._read_on(self._newest_seen)
        except ServiceError:
            # The next append meets the same error.
            _log.exception(
                "actor: cannot follow log", tenant=self._tenant, execution=self._execution
            )


class LiveLogs:
    """The logs that this worker follows, and a cache of those that it followed until recently."""

    def __init__(self, services: EngineServices) -> None:
        self._services = services
        self._open: dict[tuple[str, str], LiveLog] = {}
        self._idle: TtlCache[tuple[str, str], LiveLog] = execution_cache(services.loop.call_later)

    @contextlib.asynccontextmanager
    async def open_log(self, tenant: str, execution: str) -> AsyncIterator[LiveLog]:
        """Follow an execution's log together with its other users, during the ``with`` block.

        Raises:
            ExecutionNotFoundError: there is no such execution, or part of its log has expired.
        """
        key = (tenant, execution)
        log = self._open.get(key) or self._idle.pop(key)
        log = self._open[key] = log or LiveLog(self._services, tenant, execution)
        log.users += 1
        try:
            await log.open()
            yield log
        finally:
            log.users -= 1
            if not log.users:
                del self._open[key]
                if log.is_reusable:
                    self._idle.put(key, log, memory_of(log.size, len(log.state.steps)))
                await log.close()
