"""Remove the start rows of executions that have been deleted.

Rows are read in order, from where the last sweep ended, up to those that are younger than the
retention. As a rule all of them are removed, by one request for each batch. Rows of executions that
are still there stay, and are read again in the next pass, a few times in a retention period.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec

from tailrace_shared.execution.timestamps import parse_timestamp
from tailrace_shared.nats.bucket import Bucket
from tailrace_shared.stores.indexes.start_index import BACKFILLED, StartIndex, StartRow
from tailrace_shared.stores.run_list import RunList

_KEY: Final = "starts"
_BATCH: Final = 500
_PASSES_IN_A_RETENTION: Final = 8
# A start that takes longer has failed.
_MIN_AGE_S: Final = 60.0


class _Pass(msgspec.Struct):
    position: int = 0
    begun: float = 0.0


class StartPruning:
    """Removes start rows without an execution.

    Args:
        starts: the rows.
        run_list: tells which executions exist.
        state: the bucket that records how far the last sweep came.
        seconds: the retention.
        clock: returns the seconds since the epoch.
    """

    def __init__(
        self,
        starts: StartIndex,
        run_list: RunList,
        state: Bucket,
        seconds: float,
        clock: Callable[[], float],
    ) -> None:
        self._starts = starts
        self._run_list = run_list
        self._state = state
        self._seconds = max(seconds, _MIN_AGE_S)
        self._clock = clock

    async def sweep(self) -> int:
        """Remove rows; return how many. The caller sees to it that one process does so at a time.

        Raises:
            UnavailableError: NATS did not answer; the next sweep continues.
            JetStreamError: JetStream refused a request.
        """
        now = self._clock()
        entry = await self._state.get_newest(_KEY)
        done = _Pass() if entry is None else msgspec.json.decode(entry.value, type=_Pass)
        if not 0 <= now - done.begun < self._seconds / _PASSES_IN_A_RETENTION:
            done = _Pass(0, now)
        first = await self._starts.first_sequence()
        # Whether all rows before the batch have been removed.
        is_prefix = done.position <= first
        removed = 0
        batch: list[StartRow] = []
        async for row in self._starts.oldest_first(done.position):
            if _started_at(row) > now - self._seconds:
                break
            batch.append(row)
            if len(batch) == _BATCH:
                count = await self._remove_dead(batch, is_prefix=is_prefix)
                is_prefix = is_prefix and count == len(batch)
                removed, done.position, batch = removed + count, row.position.sequence + 1, []
                await self._state.put(_KEY, msgspec.json.encode(done))
        if batch:
            removed += await self._remove_dead(batch, is_prefix=is_prefix)
            done.position = batch[-1].position.sequence + 1
        if batch or entry is None or done.begun == now:
            await self._state.put(_KEY, msgspec.json.encode(done))
        return removed

    async def _remove_dead(self, rows: list[StartRow], *, is_prefix: bool) -> int:
        existing = await self._run_list.existing(rows)
        dead = [row for row in rows if (row.tenant, row.start.execution_id) not in existing]
        leading = 0
        if is_prefix:
            while leading < len(dead) and dead[leading] is rows[leading]:
                leading += 1
        if leading:
            await self._starts.remove_up_to(dead[leading - 1].position.sequence)
        await asyncio.gather(*(self._starts.remove(row) for row in dead[leading:]))
        return len(dead)


def _started_at(row: StartRow) -> float:
    # The row of an older execution was written when the topology was applied.
    if row.position.kind == BACKFILLED and row.start.created_at is not None:
        return parse_timestamp(row.start.created_at)
    return row.written_at
