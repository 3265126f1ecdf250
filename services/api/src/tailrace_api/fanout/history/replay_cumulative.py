"""Rewinding: what a client has missed of a cumulative dialect, from the log and the topic's state.

What such a dialect shows of an event depends on those before it. A topic knows how all that is live
stands at its edge. To go on after an earlier place, the tenant's log is read from there to the
edge. How an execution stood there that has done something since, its commit before that says; the
others stood there as they stand now. From that state on, the events between are shown as they were
to those who were there.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from tailrace_api.dialects.context import Context
from tailrace_api.dialects.dialect import ILLEGIBLE, Cumulative
from tailrace_api.dialects.snapshot import EarlierStatus
from tailrace_api.fanout.tenants.contexts import Contexts, contexts_of
from tailrace_api.fanout.topics.topic import Topic
from tailrace_api.fanout.views.batch import Batch
from tailrace_shared.errors import NewerLogError
from tailrace_shared.execution.state import IllegalEventError
from tailrace_shared.execution.transitions import TERMINAL_STATUSES
from tailrace_shared.nats.catch_up import until_caught_up
from tailrace_shared.stores.execution_log import Commit, ExecutionLog

MOST_COMMITS: Final = 4096
"""Who has missed more begins anew."""

_AT_ONCE: Final = 16


async def missed(
    log: ExecutionLog, contexts: Contexts, topic: Topic, sequence: int, index: int
) -> Batch | None:
    """Return what a topic's state has taken from a place on; None if that is too much.

    Args:
        log: where to look.
        contexts: what is known of executions.
        topic: whose ring begins later.
        sequence: the commit of the next event, or the lowest that it may have.
        index: the next event of that commit.

    Raises:
        UnavailableError: NATS did not answer, or no replica that is up to date.
    """
    commits = await _read(log, topic, sequence)
    if commits is None:
        return None
    # From here on the topic may move on; the copy does not.
    state, edge = _copy(topic)
    commits = [commit for commit in commits if commit.sequence <= edge]
    known = await contexts_of(topic.view, contexts, commits)
    concerned = [
        commit
        for commit in commits
        if topic.view.dialect.concerns(known[commit.execution], commit.payload)
    ]
    state.rewind(await _before(log, topic.view.part.tenant, known, concerned))
    encoded = [
        topic.view.encode(topic.epoch, commit, known[commit.execution], state) for commit in commits
    ]
    if not encoded:
        return Batch(b"", 0, edge + 1, None, None, is_last=False)
    skipped = index if encoded[0].sequence == sequence else 0
    return replace(Batch.of(topic.epoch, encoded, skipped), next_sequence=edge + 1)


def _copy(topic: Topic) -> tuple[Cumulative, int]:
    state, ring = topic.state, topic.ring
    if ring is None or not isinstance(state, Cumulative):
        raise TypeError(f"{topic.view.dialect.name} has no state that can be rewound")
    return state.copy(), ring.edge


async def _read(log: ExecutionLog, topic: Topic, first: int) -> list[Commit] | None:
    """Read the log at least up to the edge of the topic's ring."""
    commits: list[Commit] = []
    part = topic.view.part

    async def read() -> list[Commit] | None:
        page, _ = await log.page(part, first)
        if page:
            return page
        newest = await log.newest(part)
        return None if newest is None or newest.sequence < first else []

    while topic.ring is not None and first <= topic.ring.edge:
        page = await until_caught_up(read, lambda page: page != [], f"tenant {part.tenant!r}")
        if page is None:
            break  # the ring begins at the end of the stream, and the tenant has no commit since
        commits += page
        if len(commits) > MOST_COMMITS:
            return None
        first = page[-1].sequence + 1
    return commits


async def _before(
    log: ExecutionLog, tenant: str, known: dict[str, Context], commits: Iterable[Commit]
) -> dict[str, EarlierStatus]:
    """Return how executions stood before commits of theirs."""
    first: dict[str, Commit] = {}
    for commit in commits:
        first.setdefault(commit.execution, commit)
    slots = asyncio.Semaphore(_AT_ONCE)

    async def ask(commit: Commit) -> EarlierStatus:
        async with slots:
            status = await _status_before(log, tenant, commit)
        workflow = known[commit.execution].workflow_id
        return EarlierStatus(workflow, None if status in TERMINAL_STATUSES else status)

    stood = await asyncio.gather(*map(ask, first.values()))
    return dict(zip(first, stood, strict=True))


async def _status_before(log: ExecutionLog, tenant: str, commit: Commit) -> str | None:
    if commit.previous == 0:
        return None
    if commit.previous:
        found = await log.find(commit.previous) or await log.find_on_leader(commit.previous)
        if found and (standing := found[2].status):
            return standing.status
    return await _folded(log, tenant, commit)


async def _folded(log: ExecutionLog, tenant: str, commit: Commit) -> str | None:
    """Return how an execution stood before a commit by its log, if anybody can tell."""
    try:
        previous = commit.previous
        if previous is None:
            commits = log.read(tenant, commit.execution)
            earlier = [each.sequence async for each in commits if each.sequence < commit.sequence]
            previous = max(earlier, default=0)
        return (await log.fold_to(tenant, commit.execution, previous)).status if previous else None
    except (NewerLogError, IllegalEventError, *ILLEGIBLE):
        return None
