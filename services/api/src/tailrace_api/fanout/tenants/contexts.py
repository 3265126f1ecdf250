"""Contexts: what the first events of executions say, at hand for those who are shown later ones.

A context is learned when the first commit of an execution passes, and read from the log where it
did not. It never changes, so one that was dropped to make room is read again. Of an execution whose
first commit has expired, nothing more is known than what its later commits say.
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
from tailrace_shared.redact.masking import mask_value
from tailrace_shared.stores.execution_log import Commit, ExecutionLog
from tailrace_shared.stores.indexes.waiting_index import MAX_INDEXED_BYTES

_FIRST: Final = b'[{"type":"execution:queued"'
_READS_AT_ONCE: Final = 16
# What a context takes beside its input, and how much larger an input is than its text.
_OVERHEAD: Final = 600
_EXPANSION: Final = 3

_Key = tuple[str, str]


class _Queued(msgspec.Struct):
    execution_id: str
    workflow_id: str
    workflow_name: str
    input: msgspec.Raw = msgspec.Raw(b"null")
    sensitive: list[str] = []


class _First(msgspec.Struct):
    data: _Queued


_decode_first = msgspec.json.Decoder(_First).decode


class Contexts:
    """The contexts of executions, those used last.

    Args:
        log: where the others are read.
        most_bytes: how much they may take.
    """

    def __init__(self, log: ExecutionLog, most_bytes: int) -> None:
        self._log = log
        self._known: TtlCache[_Key, Context] = TtlCache(most_bytes)
        self._reads: SingleFlight[_Key, Context] = SingleFlight()
        self._slots = asyncio.Semaphore(_READS_AT_ONCE)

    def __len__(self) -> int:
        return len(self._known)

    def known(self, tenant: str, execution: str) -> Context | None:
        """Return a context that is at hand."""
        return self._known.get((tenant, execution))

    def learn(self, tenant: str, execution: str, payload: bytes) -> Context | None:
        """Return the context that a commit tells; None if it is not the first of an execution."""
        if not payload.startswith(_FIRST):
            return None
        try:
            queued = _decode_first(split_commit(payload)[0]).data
            context = Context(execution, queued.workflow_id, queued.workflow_name, _kept(queued))
        except ILLEGIBLE:
            return None  # somebody else writes to our log
        size = len(queued.input) if context.input is not None else 0
        self._remember((tenant, execution), context, size * _EXPANSION)
        return context

    async def of(self, tenant: str, executions: Iterable[str]) -> dict[str, Context]:
        """Return the contexts of some executions.

        Raises:
            UnavailableError: NATS did not answer.
        """
        found: dict[str, Context] = {}
        missing = []
        for execution in set(executions):
            if context := self.known(tenant, execution):
                found[execution] = context
            else:
                missing.append(execution)
        read = await asyncio.gather(*(self._ask(tenant, execution) for execution in missing))
        return found | dict(zip(missing, read, strict=True))

    async def _ask(self, tenant: str, execution: str) -> Context:
        return await self._reads.run((tenant, execution), lambda: self._read(tenant, execution))

    async def _read(self, tenant: str, execution: str) -> Context:
        async with self._slots:
            first = await self._log.first(tenant, execution)
        context = None
        if first is not None and not first.is_newer:
            context = self.learn(tenant, execution, first.payload)
        if context is None:
            context = _what_is_left(execution, first)
            self._remember((tenant, execution), context, 0)
        return context

    def _remember(self, key: _Key, context: Context, size: int) -> None:
        self._known.put(key, context, size + _OVERHEAD)


def _kept(queued: _Queued) -> Any:
    if len(queued.input) > MAX_INDEXED_BYTES:
        return None
    return mask_value(msgspec.json.decode(queued.input), queued.sensitive)


def _what_is_left(execution: str, commit: Commit | None) -> Context:
    workflow = commit.workflow if commit else ""
    return Context(execution, workflow, workflow)


async def contexts_of(
    view: View, contexts: Contexts, commits: Iterable[Logged]
) -> dict[str, Context]:
    """Return what a view must know of the executions of some commits.

    Raises:
        UnavailableError: NATS did not answer.
    """
    found: dict[str, Context] = {}
    unknown = []
    for commit in commits:
        if (context := view.context(commit)) is not None:
            found[commit.execution] = context
        else:
            contexts.learn(view.part.tenant, commit.execution, commit.payload)
            unknown.append(commit.execution)
    return found | await contexts.of(view.part.tenant, unknown) if unknown else found
