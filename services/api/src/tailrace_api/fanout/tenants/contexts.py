"""Cache data of executions' first events, for streams of their later events.

A context is cached when the first commit of an execution passes; otherwise it is read from the log.
It never changes, so an evicted one is read again. If the first commit has expired, the context has
only what later commits say.
"""

import asyncio
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from tailrace_api.dialects.context import Context
from tailrace_api.dialects.dialect import ILLEGIBLE
from tailrace_api.fanout.views.view import Logged, View
from tailrace_shared.caching.single_flight import SingleFlight
from tailrace_shared.caching.ttl_cache import TtlCache
from tailrace_shared.execution.commits import split_commit
from tailrace_shared.execution.events import Parent
from tailrace_shared.nats.catch_up import until_caught_up
from tailrace_shared.redact.masking import mask_value
from tailrace_shared.stores.execution_log import ExecutionLog
from tailrace_shared.stores.indexes.waiting_index import MAX_INDEXED_BYTES
from tailrace_shared.stores.log_records import Commit
from tailrace_shared.subjects import FEED

_FIRST: Final = b'[{"type":"execution:queued"'
_MAX_CONCURRENT_READS: Final = 16
# Memory of a context beside its input, and the size of a decoded input relative to its JSON.
_OVERHEAD_BYTES: Final = 900
_EXPANSION: Final = 3

_NO_EXECUTION: Final = Context(FEED)
"""The context of messages to a feed."""

_Key = tuple[str, str]


class _Queued(msgspec.Struct):
    execution_id: str
    workflow_id: str
    workflow_name: str
    input: msgspec.Raw = msgspec.Raw(b"null")
    sensitive: list[str] = []
    version: int = 0
    parent: Parent | None = None
    rerun_of: str | None = None
    tags: tuple[str, ...] = ()


class _First(msgspec.Struct):
    data: _Queued
    timestamp: str | None = None


_decode_first = msgspec.json.Decoder(_First).decode


class Contexts:
    """A cache of contexts; it evicts the least recently used.

    Args:
        log: the source of contexts that are not cached.
    """

    def __init__(self, log: ExecutionLog, max_bytes: int) -> None:
        self._log = log
        self._cache: TtlCache[_Key, Context] = TtlCache(max_bytes)
        self._reads: SingleFlight[_Key, Context] = SingleFlight()
        self._slots = asyncio.Semaphore(_MAX_CONCURRENT_READS)

    def __len__(self) -> int:
        return len(self._cache)

    def known(self, tenant: str, execution: str) -> Context | None:
        if execution == FEED:
            return _NO_EXECUTION
        return self._cache.get((tenant, execution))

    def learn(self, tenant: str, execution: str, payload: bytes) -> Context | None:
        """Cache and return the context in a first commit; None for any other commit."""
        if not payload.startswith(_FIRST):
            return None
        try:
            first = _decode_first(split_commit(payload)[0])
            queued = first.data
            context = Context(
                execution,
                queued.workflow_id,
                queued.workflow_name,
                _masked_input(queued),
                queued.version,
                first.timestamp,
                None if queued.parent is None else queued.parent.execution_id,
                queued.rerun_of,
                queued.tags,
            )
        except ILLEGIBLE:
            return None  # written by another client
        size = len(queued.input) if context.input is not None else 0
        self._remember((tenant, execution), context, size * _EXPANSION)
        return context

    async def of(self, tenant: str, executions: Iterable[str]) -> dict[str, Context]:
        found: dict[str, Context] = {}
        missing = []
        for execution in set(executions):
            if context := self.known(tenant, execution):
                found[execution] = context
            else:
                missing.append(execution)
        read = await asyncio.gather(*(self._read_once(tenant, execution) for execution in missing))
        return found | dict(zip(missing, read, strict=True))

    async def _read_once(self, tenant: str, execution: str) -> Context:
        return await self._reads.run((tenant, execution), lambda: self._read(tenant, execution))

    async def _read(self, tenant: str, execution: str) -> Context:
        async def read() -> Commit | None:
            async with self._slots:
                return await self._log.first(tenant, execution)

        # The caller has seen a commit of the execution, so a replica that has none lags.
        first = await until_caught_up(read, lambda found: found is not None, execution)
        context = None
        if first is not None and not first.is_newer:
            context = self.learn(tenant, execution, first.payload)
        if context is None:
            context = _partial_context(execution, first)
            self._remember((tenant, execution), context, 0)
        return context

    def _remember(self, key: _Key, context: Context, size: int) -> None:
        self._cache.put(key, context, size + _OVERHEAD_BYTES)


def _masked_input(queued: _Queued) -> Any:
    if len(queued.input) > MAX_INDEXED_BYTES:
        return None
    return mask_value(msgspec.json.decode(queued.input), queued.sensitive)


def _partial_context(execution: str, commit: Commit | None) -> Context:
    workflow = commit.workflow if commit else ""
    return Context(execution, workflow, workflow)


async def contexts_of(
    view: View, contexts: Contexts, commits: Iterable[Logged]
) -> dict[str, Context]:
    """Return the contexts that a view needs for some commits, by execution."""
    found: dict[str, Context] = {}
    unknown = []
    for commit in commits:
        if (context := view.context(commit)) is not None:
            found[commit.execution] = context
        else:
            contexts.learn(view.part.tenant, commit.execution, commit.payload)
            unknown.append(commit.execution)
    return found | await contexts.of(view.part.tenant, unknown) if unknown else found
