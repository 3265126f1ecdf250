"""How many timers fire soon, without a read of the whole due index at each question.

An index of a million entries takes 22 seconds of a core to read. So each reading goes on where the
last one stopped, and reads a limited number of entries: those that were written since, and some of
a pass over all entries. A pass begins anew now and then, because a timer that was far away comes
near. Entries within its horizon are kept, and those that are near are looked up again: a signal may
have removed them.
"""

from typing import Final

from tailrace_shared.stores.indexes.due_index import Due, DueIndex

_ENTRIES_PER_READING: Final = 10_000
# A pass begins this long after the one before, or once that has ended if it takes longer.
_PASS_S: Final = 300.0
# Entries whose deadlines are more passes away wait for the next one, which meets them in time.
_HORIZON_PASSES: Final = 2
# Entries that are kept, about 60 MB. More would not change the decision of an autoscaler.
_MAX_KEPT: Final = 200_000
# Entries that one reading looks up again. Others count although they may have been removed.
_MAX_LOOKUPS: Final = 10_000


class TimerForecast:
    """Counts the timers that fire within some seconds.

    In an index of more entries than one reading reads, it counts too few until its second pass has
    ended.
    """

    def __init__(self, due: DueIndex) -> None:
        self._due = due
        self._kept: dict[int, Due] = {}
        # The revision from which the pass goes on, the one that it ends before, and its begin.
        self._next = self._end = 1
        self._began_at = 0.0
        # How far ahead an entry is kept, in seconds.
        self._horizon = _HORIZON_PASSES * _PASS_S
        # The revision from which the entries are read that were written since the first reading.
        self._new = 0

    async def count(self, now: float, seconds: float, newest: int) -> int:
        """Return how many timers fire within some seconds.

        Args:
            now: the time of NATS, in seconds since the epoch.
            seconds: how far to look.
            newest: the newest revision of the index.

        Raises:
            UnavailableError: NATS did not answer.
            JetStreamError: JetStream refused a request.
        """
        is_new = not self._new or newest + 1 < self._new  # restored from a backup
        if is_new:
            self._new = newest + 1
        if is_new or (self._next >= self._end and now >= self._began_at + _PASS_S):
            took = 0.0 if is_new else now - self._began_at
            self._horizon = _HORIZON_PASSES * max(took, _PASS_S)
            self._next, self._end, self._began_at = 1, newest + 1, now
        self._new = await self._read(now, self._new, newest + 1)
        self._next = await self._read(now, self._next, self._end)
        self._kept = {number: due for number, due in self._kept.items() if due.by > now}
        near = [due for due in self._kept.values() if due.by <= now + seconds]
        checked = near[:_MAX_LOOKUPS]
        removed = {due.revision for due in checked} - await self._due.current(checked)
        for revision in removed:
            self._kept.pop(revision, None)
        return len(near) - len(removed)

    async def _read(self, now: float, revision: int, end: int) -> int:
        """Keep the entries in a range of revisions, or as many as one reading reads.

        Args:
            now: the time of NATS.
            revision: the first revision.
            end: the revision after the last one.

        Returns:
            The revision from which the next reading goes on.
        """
        if revision >= end:
            return revision
        count = 0
        async for due in self._due.entries(revision):
            if due.revision >= end:
                break
            if now < due.by <= now + self._horizon and len(self._kept) < _MAX_KEPT:
                self._kept[due.revision] = due
            count += 1
            if count == _ENTRIES_PER_READING:
                return due.revision + 1
        return end
