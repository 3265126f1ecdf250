"""The log of an execution that this worker does not drive, but whose steps it attends to.

All attempts of one execution on this worker share one followed log: it is read once, and then kept
up to date by what is republished. When the last of them has ended it is put aside for a while: the
next attempt only reads what is new. Appends are fenced on what has been read; one that loses reads
on and looks whether it is still to be made. They name no writer: the driver stays the driver.
"""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import TypeVar

import nats.errors
import structlog
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from tailrace_shared.caching.ttl_cache import TtlCache
from tailrace_shared.errors import (
    ExecutionNotFoundError,
    ServiceError,
    UnavailableError,
    WrongLastSequenceError,
)
from tailrace_shared.execution.commit_status import STATE, WORKFLOW
from tailrace_shared.execution.commits import decode_commit, encode_commits
from tailrace_shared.execution.events import Event, referenced_output_bytes
from tailrace_shared.execution.state import ExecutionState
from tailrace_shared.nats.fenced_append import append
from tailrace_shared.nats.topology import EVENTS
from tailrace_worker.engine.services.engine_services import EngineServices
from tailrace_worker.engine.tasks import retry
from tailrace_worker.engine.tasks.execution_cache import execution_cache, memory_of

_log = structlog.get_logger(__name__)

T = TypeVar("T")


class LiveLog:
    """One execution's log and the state that it folds to. Lives on the engine's loop.

    Attributes:
        state: the execution, kept up to date in place.
        last_writer: who of those that drive it has written last.
        users: how many attempts share it.
        size: what the log takes in bytes, with the outputs that are kept elsewhere.
    """

    state: ExecutionState

    def __init__(self, services: EngineServices, tenant: str, execution: str) -> None:
        self._services = services
        self._tenant = tenant
        self._execution = execution
        self._last_sequence = 0
        self._heard = 0
        self._reading = asyncio.Lock()
        self._moved: set[Callable[[], None]] = set()
        self._subscription: Subscription | None = None
        self._catching_up: asyncio.Task[None] | None = None
        # Whether the state is that of the last sequence, and no half of a commit is in it.
        self._is_whole = False
        self.last_writer = ""
        self.users = 0
        self.size = 0

    async def open(self) -> None:
        """Read the log, or what is new in it, and begin to follow it; once is enough.

        Raises:
            ExecutionNotFoundError: there is no such execution, or not all of its log.
        """
        async with self._reading:
            is_new = self._subscription is None
            if self._subscription is None:
                self._subscription = await self._services.subscribe_live(
                    self._tenant, self._execution, self._on_commit
                )
            if not self._is_whole:
                await self._load()
            elif is_new:
                await self._read_on(0)

    async def _load(self) -> None:
        history = await patiently(
            lambda: self._services.stores.log.load(self._tenant, self._execution)
        )
        self.state, self._last_sequence = history.state, history.last_sequence
        self.last_writer, self.size = history.last_writer, history.size
        self._is_whole = True

    @property
    def is_of_use(self) -> bool:
        """Whether what it has read is worth keeping for another attempt."""
        return self._is_whole and not self.state.is_terminal

    async def close(self) -> None:
        """Follow it no more, until it is opened again."""
        if self._catching_up is not None:
            self._catching_up.cancel()
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            with contextlib.suppress(nats.errors.Error):
                await subscription.unsubscribe()

    @contextlib.contextmanager
    def watching(self, moved: Callable[[], None]) -> Iterator[None]:
        """Call ``moved`` whenever the state has changed."""
        self._moved.add(moved)
        try:
            yield
        finally:
            self._moved.discard(moved)

    async def refresh(self) -> None:
        """Make sure that nothing newer is in the log, by its leader's word.

        Raises:
            ExecutionNotFoundError: the log is gone.
        """
        # Others may read on while the leader is asked.
        seen = self._last_sequence
        newest = await patiently(
            lambda: self._services.stores.log.last_commit(self._tenant, self._execution)
        )
        if newest is None or newest.sequence < seen:
            raise self._gone()
        async with self._reading:
            await self._read_on(newest.sequence)

    async def append(
        self, events: Sequence[Event], is_wanted: Callable[[ExecutionState], bool]
    ) -> bool:
        """Append events, however long NATS is away; False if they were not wanted any more.

        Args:
            events: what to append; of what is too large for one commit, the first may be stored
                although the rest is not.
            is_wanted: asked of the very state that the events are appended to.

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
                    # What is told of an attempt changes neither status nor waits for signals.
                    headers={
                        WORKFLOW: self.state.workflow_id,
                        STATE: str(self.state.commit_status),
                    },
                    retry_s=float("inf"),
                )
            except WrongLastSequenceError as lost:
                last = lost.last or 0
                if lost.last is not None and last < self._last_sequence:
                    raise self._gone() from lost
                await self._read_on(last)
            else:
                self._take(sequence, payload)
                return True
        return False

    def _gone(self) -> ExecutionNotFoundError:
        return ExecutionNotFoundError(f"the log of {self._execution!r} is gone")

    async def _read_on(self, known: int) -> None:
        """Read what others have appended, as far as ``known`` at the least."""
        await patiently(lambda: self._read_to(max(known, self._heard)))

    async def _read_to(self, known: int) -> None:
        after = self._last_sequence + 1
        async for commit in self._services.stores.log.read(self._tenant, self._execution, after):
            self.last_writer = commit.writer or self.last_writer
            self._take(commit.sequence, commit.payload)
        if self._last_sequence < known:
            raise UnavailableError("a replica lags behind what another has answered")

    def _take(self, sequence: int, payload: bytes) -> None:
        self._is_whole = False
        events = decode_commit(payload)
        for event in events:
            self.state.apply(event)
        self._last_sequence, self._is_whole = sequence, True
        self.size += len(payload) + referenced_output_bytes(events)
        for moved in list(self._moved):
            moved()

    async def _on_commit(self, message: Msg) -> None:
        sequence = int((message.headers or {}).get("Nats-Sequence", "0"))
        self._heard = max(self._heard, sequence)
        is_new = self._subscription is not None and self._heard > self._last_sequence
        if is_new and (self._catching_up is None or self._catching_up.done()):
            self._catching_up = self._services.loop.create_task(self._catch_up())

    async def _catch_up(self) -> None:
        try:
            while self._heard > self._last_sequence:
                async with self._reading:
                    if self._heard > self._last_sequence:
                        await self._read_on(self._heard)
        except ServiceError:
            # Whoever appends next meets it as well.
            _log.exception("cannot follow", tenant=self._tenant, execution=self._execution)


class FollowedLogs:
    """The logs that this worker follows, and those that it has followed until a moment ago."""

    def __init__(self, services: EngineServices) -> None:
        self._services = services
        self._open: dict[tuple[str, str], LiveLog] = {}
        self._idle: TtlCache[tuple[str, str], LiveLog] = execution_cache(services.loop.call_later)

    @contextlib.asynccontextmanager
    async def following(self, tenant: str, execution: str) -> AsyncIterator[LiveLog]:
        """Follow an execution's log together with its other users.

        Raises:
            ExecutionNotFoundError: there is no such execution, or not all of its log.
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
                if log.is_of_use:
                    self._idle.put(key, log, memory_of(log.size, len(log.state.steps)))
                await log.close()


async def patiently(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask until NATS answers: an attempt is not given up because a server is away."""
    return await retry.patiently(ask, patience=math.inf)
