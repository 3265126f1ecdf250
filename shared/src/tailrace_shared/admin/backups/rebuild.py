"""Rebuild from the log what follows from it, and have everything driven that has not ended.

The log is read once, in order. An execution leaves the memory of this process at its end, so only
those that were running at the same time are held at once.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec
import structlog

from tailrace_shared.commands.job_publisher import JobPublisher
from tailrace_shared.execution.commits import decode_commit
from tailrace_shared.execution.state import ExecutionState, IllegalEventError
from tailrace_shared.nats.jetstream import JetStream
from tailrace_shared.nats.topology import EVENTS
from tailrace_shared.stores.indexes.due_index import NOW
from tailrace_shared.stores.indexes.result_index import Result
from tailrace_shared.stores.log_records import is_newer
from tailrace_shared.stores.start_backfill import backfill_starts
from tailrace_shared.stores.stores import Stores
from tailrace_shared.subjects import FEED, Subjects

_AT_ONCE: Final = 200

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Rebuilt:
    """The result of a rebuild.

    Attributes:
        ended: executions that have ended.
        live: executions that were given a job.
        unreadable: executions whose log is incomplete or of a newer version; they are left alone.
    """

    ended: int = 0
    live: int = 0
    unreadable: int = 0


class _Ended(NamedTuple):
    """An execution that has ended, with the sequence and the time of its last commit."""

    tenant: str
    state: ExecutionState
    sequence: int
    time: float

    @property
    def result(self) -> Result:
        state = self.state
        return Result(state.execution_id, state.status, self.sequence, state.finished_at or "")


class Rebuild:
    """Rebuilds the indexes of one installation whose streams have been restored."""

    def __init__(self, jetstream: JetStream, subjects: Subjects, stores: Stores) -> None:
        self._jetstream = jetstream
        self._subjects = subjects
        self._stores = stores
        self._jobs = JobPublisher(jetstream, subjects)
        self._states: dict[tuple[str, str], ExecutionState] = {}
        self._unreadable: set[tuple[str, str]] = set()

    async def run(self, report: Callable[[int, int], None]) -> Rebuilt:
        """Rebuild everything. It may be repeated.

        Args:
            report: called with the rows added to the list of runs so far, and of all.

        Raises:
            UnavailableError: NATS did not answer.
        """
        rebuilt = Rebuilt()
        ended: list[_Ended] = []
        stream = self._subjects.stream(EVENTS)
        async for message in self._jetstream.read(stream, self._subjects.logs(), 1):
            key = self._subjects.execution_of(message.subject)
            if key[1] == FEED:
                continue
            state = self._apply(key, message.data, is_newer=is_newer(message.headers))
            if state is None or not state.is_terminal:
                continue
            del self._states[key]
            ended.append(_Ended(key[0], state, message.sequence, message.time))
            if len(ended) == _AT_ONCE:
                rebuilt.ended += await self._store_ended(ended)
                ended = []
        rebuilt.ended += await self._store_ended(ended)
        live = list(self._states.items())
        for start in range(0, len(live), _AT_ONCE):
            some = live[start : start + _AT_ONCE]
            await asyncio.gather(*(self._store_live(tenant, state) for (tenant, _), state in some))
        await self._stores.live.backfill(self._stores.runs)
        await backfill_starts(self._jetstream, self._subjects, report)
        # Last: a worker that takes a job finds all indexes.
        for start in range(0, len(live), _AT_ONCE):
            some = live[start : start + _AT_ONCE]
            await asyncio.gather(*(self._jobs.advance(*key) for key, _ in some))
        rebuilt.live, rebuilt.unreadable = len(live), len(self._unreadable)
        return rebuilt

    def _apply(
        self, key: tuple[str, str], payload: bytes, *, is_newer: bool
    ) -> ExecutionState | None:
        if key in self._unreadable:
            return None
        state = self._states.setdefault(key, ExecutionState())
        try:
            for event in [] if is_newer else decode_commit(payload):
                state.apply(event)
        except (IllegalEventError, msgspec.MsgspecError) as error:
            self._leave_alone(key, str(error))
            return None
        if is_newer:
            self._leave_alone(key, "of a newer version of Tailrace")
            return None
        return state

    def _leave_alone(self, key: tuple[str, str], reason: str) -> None:
        tenant, execution = key
        _log.warning("rebuild: unreadable log", tenant=tenant, execution=execution, reason=reason)
        self._unreadable.add(key)
        del self._states[key]

    async def _store_ended(self, ended: list[_Ended]) -> int:
        # About in the order of the ends, and with their times: the retention counts from them.
        await asyncio.gather(
            *(self._stores.runs.put(each.tenant, each.state, as_of=each.time) for each in ended)
        )
        await asyncio.gather(
            *(
                self._stores.results.put(each.tenant, each.state.workflow_id, each.result)
                for each in ended
            )
        )
        return len(ended)

    async def _store_live(self, tenant: str, state: ExecutionState) -> None:
        execution = state.execution_id
        await asyncio.gather(
            self._stores.runs.put(tenant, state),
            self._stores.live.put(tenant, state.workflow_id, execution),
            self._stores.due.put(tenant, execution, NOW),
        )
