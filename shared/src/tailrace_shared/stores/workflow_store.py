"""Workflow definitions of all tenants, in a bucket whose revisions are their versions."""

from collections.abc import Iterable
from typing import Final, NamedTuple
from urllib.parse import quote, unquote

import msgspec

from tailrace_shared.caching.ttl_cache import TtlCache
from tailrace_shared.errors import WorkflowNotFoundError
from tailrace_shared.ids import check_id
from tailrace_shared.nats.bucket import Bucket, BucketEntry
from tailrace_shared.nats.jetstream import JetStream
from tailrace_shared.nats.topology import WORKFLOWS
from tailrace_shared.subjects import Subjects
from tailrace_shared.workflow.definition import Definition, decode_definition, encode_definition

_MAX_CACHED_BYTES: Final = 64 * 1024 * 1024
# Definitions have up to a MiB each. A page is read in steps and ends at a size limit.
_STEP: Final = 20
_AUTHOR: Final = "Tailrace-Author"
_PAGE_BYTES: Final = 16 * 1024 * 1024


class StoredWorkflow(NamedTuple):
    """A definition and its version."""

    definition: Definition
    version: int


class WorkflowHead(NamedTuple):
    """A workflow in a list: its id, newest version, display name and tags."""

    workflow_id: str
    version: int
    name: str
    tags: list[str]


class WorkflowPage(NamedTuple):
    """A page of workflows by id, and the cursor of the next page, or None."""

    workflows: list[WorkflowHead]
    cursor: str | None


class WorkflowVersion(NamedTuple):
    """A version of a workflow.

    Attributes:
        name: its display name.
        time: when it was stored, in seconds since the epoch.
        author: who stored it; empty if unknown.
    """

    version: int
    name: str
    time: float
    author: str


class _Named(msgspec.Struct):
    id: str
    name: str = ""
    tags: list[str] = []


_decode_named = msgspec.json.Decoder(_Named).decode


class WorkflowStore:
    """Stores and reads definitions. A version never changes, so decoded ones are cached."""

    def __init__(self, jetstream: JetStream, subjects: Subjects) -> None:
        self._bucket = Bucket(jetstream, subjects.stream(WORKFLOWS))
        self._versions: TtlCache[tuple[str, int], StoredWorkflow] = TtlCache(_MAX_CACHED_BYTES)

    async def put(self, tenant: str, definition: Definition, author: str = "") -> int:
        """Store a definition; return its version.

        Args:
            tenant: the tenant.
            definition: the definition.
            author: who stores it; empty if unknown.
        """
        # Quoted: a line end in a header would begin another one.
        headers = {_AUTHOR: quote(author)} if author else None
        value = encode_definition(definition)
        return await self._bucket.put(_key(tenant, definition.id), value, headers)

    async def versions(
        self, tenant: str, workflow: str, *, limit: int, before: int | None = None
    ) -> list[WorkflowVersion]:
        """Return the versions of a workflow that are kept, newest first.

        Args:
            tenant: the tenant.
            workflow: the workflow.
            limit: the maximum number of versions.
            before: only versions before this one.

        Raises:
            UnavailableError: NATS did not answer, or no up-to-date replica did.
        """
        found = await self._bucket.revisions(_key(tenant, workflow), limit, before)
        return [
            WorkflowVersion(
                each.entry.revision,
                _decode_named(each.entry.value).name or workflow,
                each.time,
                unquote(each.headers.get(_AUTHOR, "")),
            )
            for each in found
        ]

    async def get(self, tenant: str, workflow: str, version: int | None = None) -> StoredWorkflow:
        """Return a definition; the newest version if none is given.

        Raises:
            WorkflowNotFoundError: the tenant has no such workflow or version.
        """
        key = _key(tenant, workflow)
        if version is not None and (cached := self._versions.get((key, version))):
            return cached
        # The newest version is the leader's: a replica that lags has an older one, or none.
        entry = await (
            self._bucket.get_newest(key)
            if version is None
            else self._bucket.get_revision(key, version)
        )
        if entry is None:
            rest = ": apply its definition first" if version is None else f" in version {version}"
            raise WorkflowNotFoundError(f"there is no workflow {workflow!r}{rest}")
        return self._decoded(entry)

    async def page(self, tenant: str, *, limit: int, cursor: str | None = None) -> WorkflowPage:
        """Return up to ``limit`` of the tenant's workflows after ``cursor``, ordered by id.

        A page with large definitions may be shorter, and still have a cursor.
        """
        keys = sorted(await self._bucket.keys(f"{check_id(tenant, 'tenant')}.*"))
        if cursor is not None:
            keys = [key for key in keys if key > _key(tenant, cursor)]
        found: list[WorkflowHead] = []
        size = taken = 0
        while len(found) < limit and taken < len(keys) and size < _PAGE_BYTES:
            # Deleted workflows have keys, too.
            some = keys[taken : taken + min(_STEP, limit - len(found))]
            entries = sorted(await self._bucket.get_many(some), key=lambda entry: entry.key)
            found += [_head(entry) for entry in entries]
            size += sum(len(entry.value) for entry in entries)
            taken += len(some)
        more = taken < len(keys)
        return WorkflowPage(found, keys[taken - 1].partition(".")[2] if more else None)

    async def existing(self, tenant: str, workflows: Iterable[str]) -> set[str]:
        keys = {_key(tenant, workflow): workflow for workflow in workflows}
        found = {entry.key for entry in await self._bucket.get_many(keys)}
        # A replica that lags may not have a new workflow yet, so ask the leader for the rest.
        rest = [key for key in keys if key not in found]
        if rest:
            found |= {entry.key for entry in await self._bucket.get_many_newest(rest)}
        return {keys[key] for key in found}

    async def delete(self, tenant: str, workflow: str) -> None:
        """Delete a workflow. Its runs keep the version that they started with."""
        await self._bucket.delete(_key(tenant, workflow))

    def _decoded(self, entry: BucketEntry) -> StoredWorkflow:
        key = (entry.key, entry.revision)
        stored = self._versions.get(key)
        if stored is None:
            stored = StoredWorkflow(decode_definition(entry.value), entry.revision)
            self._versions.put(key, stored, len(entry.value))
        return stored


def _head(entry: BucketEntry) -> WorkflowHead:
    # Decodes these fields only: a definition may have a MiB.
    named = _decode_named(entry.value)
    return WorkflowHead(named.id, entry.revision, named.name or named.id, named.tags)


def _key(tenant: str, workflow: str) -> str:
    return f"{check_id(tenant, 'tenant')}.{check_id(workflow, 'workflow')}"
