"""Replay for cumulative dialects, which show an event depending on those before it.

A topic's state describes the ring's edge. To resume from an earlier position, the tenant's log is
read from there to the edge. For each execution that has commits in between, the status before the
first of them is read; all others had the status that they have now. That gives the state at the
earlier position. From there, the commits are shown as they were to clients that were connected.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from tailrace_api.dialects.context import Context
from tailrace_api.dialects.dialect import ILLEGIBLE, CumulativeState
from tailrace_api.dialects.snapshot import EarlierStatus
from tailrace_api.fanout.history.log_edges import LogEdges
from tailrace_api.fanout.tenants.contexts import Contexts, contexts_of
from tailrace_api.fanout.topics.tenant_topic import TenantTopic
from tailrace_api.fanout.topics.topic_set import TopicSet
from tailrace_api.fanout.views.batch import Batch
from tailrace_shared.errors import NewerLogError
from tailrace_shared.execution.state import IllegalEventError
from tailrace_shared.execution.transitions import TERMINAL_STATUSES
from tailrace_shared.nats.catch_up import until_caught_up
from tailrace_shared.stores.execution_log import ExecutionLog
from tailrace_shared.stores.log_records import Commit

MAX_COMMITS: Final = 4096
"""A client that missed more commits gets a reset and a new snapshot."""

_MAX_CONCURRENT: Final = 16


async def replay_cumulative(
    log: ExecutionLog,
    edges: LogEdges,
    contexts: Contexts,
    topic: TenantTopic | TopicSet,
    sequence: int,
    index: int,
) -> Batch | None:
    """Return the events from a cursor to the edge of a topic's ring; None if they are too many.

    Args:
        log: the log.
        edges: reads what the log does not contain.
        contexts: the contexts of executions.
        topic: the topic, whose ring begins after the cursor.
        sequence: the lowest sequence that the next event's commit can have.
        index: the index of the next event in the commit at exactly that sequence.

    Raises:
        UnavailableError: NATS did not answer, or only replicas that lag.
    """
    commits = await _read(log, edges, topic, sequence)
    if commits is None:
        return None
    # The topic may advance from here on; the copy does not.
    state, edge = _copy(topic)
    commits = [commit for commit in commits if commit.sequence <= edge]
    known = await contexts_of(topic.view, contexts, commits)
    concerned = [
        commit
        for commit in commits
        if topic.view.dialect.concerns(known[commit.execution], commit.payload)
    ]
    state.rewind(await _statuses_before(log, topic.view.part.tenant, known, concerned))
    encoded = [
        topic.view.encode(topic.epoch, commit, known[commit.execution], state) for commit in commits
    ]
    if not encoded:
        return Batch(b"", 0, edge + 1, None, None, is_last=False)
    skipped = index if encoded[0].sequence == sequence else 0
    return replace(Batch.of(topic.epoch, encoded, skipped), next_sequence=edge + 1)


def _copy(topic: TenantTopic | TopicSet) -> tuple[CumulativeState, int]:
    state, ring = topic.state, topic.ring
    if ring is None or not isinstance(state, CumulativeState):
        raise TypeError(f"dialect {topic.view.dialect.name!r} has no cumulative state")
    return state.copy(), ring.edge


async def _read(
    log: ExecutionLog, edges: LogEdges, topic: TenantTopic | TopicSet, first: int
) -> list[Commit] | None:
    """Read the log at least up to the edge of the topic's ring; None if that is too much."""
    commits: list[Commit] = []
    part = topic.view.part

    async def read() -> list[Commit] | None:
        page, _ = await log.page(part, first)
        if page:
            return page
        return None if await edges.newest(part, first) is None else []

    # Beyond its newest commit the tenant has nothing, even if the ring's edge is later.
    while (newest := topic.newest) is not None and first <= newest.sequence:
        page = await until_caught_up(read, lambda page: page != [], f"tenant {part.tenant!r}")
        if page is None:
            break  # the ring begins at the end of the stream, and the tenant has no commit since
        commits += page
        if len(commits) > MAX_COMMITS:
            return None
        first = page[-1].sequence + 1
    return commits


async def _statuses_before(
    log: ExecutionLog, tenant: str, known: dict[str, Context], commits: Iterable[Commit]
) -> dict[str, EarlierStatus]:
    """Return the status of each execution before its first commit among ``commits``."""
    first: dict[str, Commit] = {}
    for commit in commits:
        first.setdefault(commit.execution, commit)
    slots = asyncio.Semaphore(_MAX_CONCURRENT)

    async def read(commit: Commit) -> EarlierStatus:
        async with slots:
            status = await _status_before(log, tenant, commit)
        workflow = known[commit.execution].workflow_id
        return EarlierStatus(workflow, None if status in TERMINAL_STATUSES else status)

    statuses = await asyncio.gather(*map(read, first.values()))
    return dict(zip(first, statuses, strict=True))


async def _status_before(log: ExecutionLog, tenant: str, commit: Commit) -> str | None:
    if commit.previous == 0:
        return None
    if commit.previous:
        found = await log.find(commit.previous) or await log.find_on_leader(commit.previous)
        if found and (known := found[2].status):
            return known.status
    return await _folded_status_before(log, tenant, commit)


async def _folded_status_before(log: ExecutionLog, tenant: str, commit: Commit) -> str | None:
    """Return the status before a commit by folding the log; None if the log is illegible."""
    try:
        previous = commit.previous
        if previous is None:
            commits = log.read(tenant, commit.execution)
            earlier = [each.sequence async for each in commits if each.sequence < commit.sequence]
            previous = max(earlier, default=0)
        return (await log.fold_to(tenant, commit.execution, previous)).status if previous else None
    except (NewerLogError, IllegalEventError, *ILLEGIBLE):
        return None
