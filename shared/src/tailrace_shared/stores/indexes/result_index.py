"""The index of the run of each workflow that ended last.

A result is written before its run leaves the live index, so a reader that misses a run there finds
its result here. Of two runs that end at once the log's order decides. A worker remembers the
revisions that it wrote, so a result costs one request. Results of one workflow that arrive while
another is being written are coalesced.
"""

import asyncio
from collections.abc import Iterable
from typing import Final

import msgspec

from tailrace_shared.caching.ttl_cache import TtlCache
from tailrace_shared.execution.timestamps import parse_timestamp
from tailrace_shared.ids import check_id
from tailrace_shared.nats.bucket import Bucket
from tailrace_shared.nats.jetstream import JetStream
from tailrace_shared.nats.topology import RESULTS
from tailrace_shared.subjects import Subjects

# A result with a lower sequence counts as later if its run ended this much later: then the log was
# recreated. More than the clocks of workers differ.
_NEW_LOG_S: Final = 300.0
_MAX_CACHED: Final = 10_000


class Result(msgspec.Struct, frozen=True):
    """How a run of a workflow ended.

    Attributes:
        execution_id: the run's id.
        status: its last status.
        sequence: the sequence of its last commit.
        at: when it ended (RFC 3339).
    """

    execution_id: str
    status: str
    sequence: int
    at: str

    def is_later(self, other: "Result") -> bool:
        """Return whether it ended after another one."""
        if self.sequence > other.sequence:
            return parse_timestamp(self.at) > parse_timestamp(other.at) - _NEW_LOG_S
        return parse_timestamp(self.at) > parse_timestamp(other.at) + _NEW_LOG_S


class _WorkflowEntry:
    """The cached entry of one workflow, and the pending write to it."""

    def __init__(self) -> None:
        self.revision = 0
        self.result: Result | None = None
        self.wanted: Result | None = None
        self.writing: asyncio.Task[None] | None = None


_decode = msgspec.json.Decoder(Result).decode


class ResultIndex:
    """Writes and reads the result index."""

    def __init__(self, jetstream: JetStream, subjects: Subjects) -> None:
        self._bucket = Bucket(jetstream, subjects.stream(RESULTS))
        self._entries: TtlCache[str, _WorkflowEntry] = TtlCache(_MAX_CACHED)

    async def of(self, tenant: str, workflows: Iterable[str]) -> dict[str, Result]:
        """Return the last result of each of these workflows; those without one are left out.

        Raises:
            UnavailableError: NATS did not answer.
        """
        keys = {_key(tenant, workflow) for workflow in workflows}
        pattern = f"{check_id(tenant, 'tenant')}.*"
        entries = await self._bucket.read_all(pattern, keys.__contains__)
        return {entry.key.partition(".")[2]: _decode(entry.value) for entry in entries}

    async def put(self, tenant: str, workflow: str, result: Result) -> None:
        """Store the result of a run; return when this or a later one is stored.

        Raises:
            UnavailableError: NATS did not answer.
        """
        key = _key(tenant, workflow)
        known = self._entry(key)
        while known.result is None or result.is_later(known.result):
            if known.wanted is None or result.is_later(known.wanted):
                known.wanted = result
            if known.writing is None:
                known.writing = asyncio.create_task(self._write(key, known))
            # The caller that began the write may be cancelled while others still wait.
            await asyncio.shield(known.writing)

    def _entry(self, key: str) -> _WorkflowEntry:
        known = self._entries.get(key)
        if known is None:
            known = _WorkflowEntry()
            self._entries.put(key, known)
        return known

    async def _write(self, key: str, known: _WorkflowEntry) -> None:
        try:
            wanted, known.wanted = known.wanted, None
            while wanted and (known.result is None or wanted.is_later(known.result)):
                value = msgspec.json.encode(wanted)
                revision = await self._bucket.replace(key, value, known.revision)
                if revision is not None:
                    known.revision, known.result = revision, wanted
                else:
                    # Another worker has written, or this one before its restart.
                    entry = await self._bucket.get_newest(key)
                    known.revision = entry.revision if entry else 0
                    known.result = _decode(entry.value) if entry else None
        finally:
            known.writing = None


def _key(tenant: str, workflow: str) -> str:
    return f"{check_id(tenant, 'tenant')}.{check_id(workflow, 'workflow')}"
