"""Keep at most one drive per execution, and skip executions that another worker drives.

A job may be delivered twice, and a request of the API always sends one, although a worker may be
driving the execution already. So before a drive starts, the worker that wrote last is asked whether
it is still driving. The question only saves needless work: the fence of the log is what makes a
second driver harmless.

Two caches save reading a log from its beginning each time. An execution whose steps are ended by
others one by one (the items of a map, by actors) comes back for each of them:

* ``_suspended`` keeps drives that left their execution to wait; they resume from what is new.
* ``_histories`` keeps what was read of executions that another worker turned out to drive.
"""

import dataclasses
from collections import Counter
from typing import Final

import structlog

from tailrace_shared.caching.ttl_cache import TtlCache
from tailrace_shared.errors import (
    ExecutionNotFoundError,
    HistoryExpiredError,
    JetStreamError,
    NewerLogError,
    UnavailableError,
)
from tailrace_shared.stores.log_records import History
from tailrace_worker.engine.drive.drive_result import DriveResult, End
from tailrace_worker.engine.drive.driver import Drive
from tailrace_worker.engine.services.engine_services import EngineServices
from tailrace_worker.engine.tasks.execution_cache import execution_cache, memory_of

_MAX_FAILED_DRIVES: Final = 5

_log = structlog.get_logger(__name__)

_Key = tuple[str, str]


class Drives:
    """Drives executions on this worker. Lives on the engine's loop.

    Args:
        services: what all drives share.

    Attributes:
        is_draining: whether drives start no more steps.
    """

    def __init__(self, services: EngineServices) -> None:
        self._services = services
        self._active: dict[_Key, Drive] = {}
        self._suspended: TtlCache[_Key, Drive] = execution_cache(services.loop.call_later)
        self._histories: TtlCache[_Key, History] = execution_cache(services.loop.call_later)
        # Drives of an execution that raised an unexpected error, in a row.
        self._failed_drives: Counter[_Key] = Counter()
        self.is_draining = False

    def __len__(self) -> int:
        return len(self._active)

    def get(self, tenant: str, execution: str) -> Drive | None:
        """Return the drive of an execution, or None if this worker does not drive it now."""
        return self._active.get((tenant, execution))

    def is_driving(self, tenant: str, execution: str) -> bool:
        """Answer another worker that asks; a drive that runs then reads its log again."""
        drive = self._active.get((tenant, execution))
        if drive is not None:
            drive.request_read()
        return drive is not None

    def drain(self, grace: float) -> None:
        """Have all drives start no steps, and hand over after ``grace`` seconds at most."""
        self.is_draining = True
        for drive in self._active.values():
            drive.drain(grace)

    async def drive(self, tenant: str, execution: str) -> DriveResult:
        """Drive an execution; fail it after its drive has raised several times in a row.

        Otherwise it would be retried for ever, and no client that watches it would learn why.

        Raises:
            NewerLogError: a newer version of Tailrace has written to the log.
            UnavailableError: NATS did not answer for long; the job should be tried again.
        """
        key = (tenant, execution)
        try:
            result = await self._drive(key)
        except (UnavailableError, NewerLogError, JetStreamError):
            raise
        except Exception as error:
            self._failed_drives[key] += 1
            _log.exception("drive failed", tenant=tenant, execution=execution)
            if self._failed_drives[key] < _MAX_FAILED_DRIVES:
                raise
            result = await self._fail(key, f"internal error: {type(error).__name__}: {error}")
        self._failed_drives.pop(key, None)
        return result

    async def _fail(self, key: _Key, message: str) -> DriveResult:
        history = await self._services.stores.log.load_newest(*key)
        had_ended = history.state.is_terminal
        result = await Drive(self._services, *key).fail(history, message)
        # Another drive, which finds the execution ended, removes what it has left in indexes. If
        # the execution had ended before, that drive is what raised: the entries stay.
        return result if had_ended else dataclasses.replace(result, end=End.READ_AGAIN)

    async def _drive(self, key: _Key) -> DriveResult:
        if (active := self._active.get(key)) is not None:
            active.request_read()
            return DriveResult(End.DISPLACED, 0)
        try:
            drive, history = await self._open(key)
            if await self._is_driven_elsewhere(key, history):
                self._cache(key, drive, history)
                return DriveResult(End.DISPLACED, history.last_sequence)
            result = await drive.run(history)
            self._cache(key, drive)
            # A worker that asked while the drive was leaving got the answer "driving".
            read_again = result.end is End.WAITING and drive.read_requested
            return dataclasses.replace(result, end=End.READ_AGAIN) if read_again else result
        except ExecutionNotFoundError as error:
            if not isinstance(error, HistoryExpiredError) and await self._exists(key):
                return DriveResult(End.READ_AGAIN, 0)
            tenant, execution = key
            _log.warning("no such execution", tenant=tenant, execution=execution, error=str(error))
            return DriveResult(End.NOT_FOUND, 0)
        finally:
            del self._active[key]

    async def _exists(self, key: _Key) -> bool:
        """Return whether an execution has a log, however full the disk of NATS is."""
        return await self._services.stores.log.last_commit(*key, at_least=1) is not None

    async def _open(self, key: _Key) -> tuple[Drive, History]:
        """Return a drive and the history of its execution, from a cache where possible."""
        suspended = self._suspended.pop(key)
        if suspended is not None:
            self._activate(key, suspended)
            if (history := await suspended.resume()) is not None:
                return suspended, history
        drive = Drive(self._services, *key)
        self._activate(key, drive)
        cached = self._histories.pop(key)
        return drive, await self._read(key, cached)

    async def _read(self, key: _Key, cached: History | None) -> History:
        """Read and fold the log as the stream's leader has it.

        What a drive does before its first append is not fenced: it enters the concurrency gate and
        the waiting index. So it must not begin on what a lagging replica answers.
        """
        log = self._services.stores.log
        if not self._services.is_replicated:
            return await (log.load(*key) if cached is None else log.read_on(*key, cached))
        if cached is None:
            return await log.load_newest(*key)
        newest = await log.last_commit(*key)
        if newest is None or newest.sequence < cached.last_sequence:
            return await log.load_newest(*key)
        return await log.read_on(*key, cached, newest.sequence)

    def _activate(self, key: _Key, drive: Drive) -> None:
        self._active[key] = drive
        if self.is_draining:
            drive.drain(0)

    def _cache(self, key: _Key, drive: Drive, unused: History | None = None) -> None:
        if drive.is_resumable:
            self._suspended.put(key, drive, drive.memory)
        elif unused is not None:
            self._histories.put(key, unused, memory_of(unused.size, len(unused.state.steps)))

    async def _is_driven_elsewhere(self, key: _Key, history: History) -> bool:
        writer = history.last_writer
        if history.state.is_terminal or writer in {"", self._services.worker_id}:
            return False
        liveness = self._services.liveness
        if await liveness.is_driven(writer, *key):
            return True
        # Attempts that run would be lost. Their worker may be about to reconnect to a NATS that
        # was restarted.
        is_running = any(step.status == "running" for step in history.state.steps.values())
        return is_running and await liveness.is_still_driven(writer, *key)
