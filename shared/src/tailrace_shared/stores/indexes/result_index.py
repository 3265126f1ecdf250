"""The result index: of each workflow, the run that ended last.

A result is written before its run leaves the live index: who finds a run there no more finds what
became of it here. Of two runs that end at once the log says which was last. Whoever writes knows
what was written before, if it was written here, so a result is one request; results of one
workflow that come while another is being written are one together.
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

# How much later a run must have ended to count as later although its sequence is lower: then the
# log has been made anew. More than clocks of workers differ.
_ANOTHER_LOG: Final = 300.0
_REMEMBERED: Final = 10_000


class Result(msgspec.Struct, frozen=True):
    """How a run of a workflow ended.

    Attributes:
        execution_id: the run.
        status: its last status.
        sequence: the commit with which it ended.
        at: when (RFC 3339).
    """

    execution_id: str
    status: str
    sequence: int
    at: str

    def is_later(self, other: "Result") -> bool:
        """Tell whether it ended after another one."""
        if self.sequence > other.sequence:
            return parse_timestamp(self.at) > parse_timestamp(other.at) - _ANOTHER_LOG
        return parse_timestamp(self.at) > parse_timestamp(other.at) + _ANOTHER_LOG


class _Known:
    """What is known of one workflow's entry."""

    def __init__(self) -> None:
        self.revision = 0
        self.result: Result | None = None
        self.wanted: Result | None = None
        self.writing: asyncio.Task[None] | None = None


_decode = msgspec.json.Decoder(Result).decode


class ResultIndex:
    """Writes the result index, and reads it by workflow."""

    def __init__(self, jetstream: JetStream, subjects: Subjects) -> None:
        self._bucket = Bucket(jetstream, subjects.stream(RESULTS))
        self._known: TtlCache[str, _Known] = TtlCache(_REMEMBERED)

    async def of(self, tenant: str, workflows: Iterable[str]) -> dict[str, Result]:
        """Return the last result of each of these workflows that has one.

        Raises:
            UnavailableError: NATS did not answer.
        """
        keys = {_key(tenant, workflow) for workflow in workflows}
        pattern = f"{check_id(tenant, 'tenant')}.*"
        entries = await self._bucket.read_all(pattern, keys.__contains__)
        return {entry.key.partition(".")[2]: _decode(entry.value) for entry in entries}

    async def put(self, tenant: str, workflow: str, result: Result) -> None:
        """Write down how a run ended; returns when this or a later one is stored.

        Raises:
            UnavailableError: NATS did not answer.
        """
        key = _key(tenant, workflow)
        known = self._remember(key)
        while known.result is None or result.is_later(known.result):
            if known.wanted is None or result.is_later(known.wanted):
                known.wanted = result
            if known.writing is None:
                known.writing = asyncio.create_task(self._write(key, known))
            # Whoever began it may be cancelled; the others still want it.
            await asyncio.shield(known.writing)

    def _remember(self, key: str) -> _Known:
        known = self._known.get(key)
        if known is None:
            known = _Known()
            self._known.put(key, known)
        return known

    async def _write(self, key: str, known: _Known) -> None:
        try:
            wanted, known.wanted = known.wanted, None
            while wanted and (known.result is None or wanted.is_later(known.result)):
                value = msgspec.json.encode(wanted)
                revision = await self._bucket.replace(key, value, known.revision)
                if revision is not None:
                    known.revision, known.result = revision, wanted
                else:
                    # Another worker has written, or this one before it was started anew.
                    entry = await self._bucket.get_newest(key)
                    known.revision = entry.revision if entry else 0
                    known.result = _decode(entry.value) if entry else None
        finally:
            known.writing = None


def _key(tenant: str, workflow: str) -> str:
    return f"{check_id(tenant, 'tenant')}.{check_id(workflow, 'workflow')}"
