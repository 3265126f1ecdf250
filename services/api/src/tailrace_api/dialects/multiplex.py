"""Combine several topics in one stream, each block under the name of its topic.

A block has the topic's name as the client wrote it, and its data is ``{"topic", "event", "data"}``:
the name and the data of the block in the topic's own stream. An event has the slots of all topics,
one topic after the other. So an id is valid only for the same topics.

A new stream begins with the snapshots of its topics and the past events of its executions
(backfill). These have no ids, because the position from which the stream continues is that of all
topics.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final, Self, TypeGuard

import msgspec

from tailrace_api.dialects.block import Block
from tailrace_api.dialects.context import Context
from tailrace_api.dialects.dialect import (
    AwaitsWorkflows,
    CumulativeState,
    Dialect,
    LoggedEvent,
    Slots,
    State,
)
from tailrace_api.dialects.encoding import render
from tailrace_api.dialects.snapshot import EarlierStatus, Snapshot, SnapshotQuery
from tailrace_shared.execution.commits import split_commit
from tailrace_shared.redact.masking import mask_event
from tailrace_shared.subjects import LogFilter

#: The event name of wrapped blocks without a name, as in browsers.
_DEFAULT_NAME: Final = "message"

_encode = msgspec.json.Encoder().encode
_decode_event = msgspec.json.Decoder(LoggedEvent).decode


@dataclass(frozen=True, slots=True)
class NamedTopic:
    """One topic of a multiplexed stream.

    Attributes:
        name: its name, as the client wrote it.
        execution: its execution; empty for all executions of the tenant.
    """

    name: str
    dialect: Dialect
    execution: str = ""

    def includes(self, context: Context) -> bool:
        return not self.execution or self.execution == context.execution_id

    def wrap(self, block: Block) -> Block:
        """Return a block of the topic's own stream as a block of the multiplexed stream."""
        head = {"topic": self.name, "event": block.name or _DEFAULT_NAME}
        return Block(self.name, _encode({**head, "data": msgspec.Raw(block.data)}))

    def show(self, stored: msgspec.Raw) -> Slots:
        event, context = _decode_event(stored), Context(self.execution)
        return self.slots_of(render(self.dialect, self.dialect.show, context, event, stored))

    def render(
        self, context: Context, event: LoggedEvent, stored: msgspec.Raw, state: State | None = None
    ) -> Slots:
        """Return what is shown of an event, using the topic's state if it has one."""
        if not self.includes(context):
            return self.slots_of(None)
        show = (state or self.dialect).show
        return self.slots_of(render(self.dialect, show, context, event, stored))

    def slots_of(self, shown: Slots | None) -> Slots:
        """Return the topic's slots of an event; empty slots for None."""
        if shown is None:
            return (None,) * self.dialect.slots
        return tuple(None if block is None else self.wrap(block) for block in shown)


class _States:
    """The states of the topics that have one, at one position of a tenant's log."""

    def __init__(self, topics: Sequence[tuple[NamedTopic, State | None]]) -> None:
        self._topics = topics

    @property
    def size(self) -> int:
        return sum(state.size for _topic, state in self._topics if state is not None)

    def show(self, context: Context, event: LoggedEvent, stored: msgspec.Raw) -> Slots:
        return tuple(
            chain.from_iterable(
                topic.render(context, event, stored, state) for topic, state in self._topics
            )
        )

    @property
    def missing(self) -> frozenset[str]:
        return frozenset().union(*(state.missing for state in self._awaiting()))

    def add_workflows(self, workflows: Collection[str]) -> None:
        for state in self._awaiting():
            state.add_workflows(workflows)

    def _awaiting(self) -> Iterator[AwaitsWorkflows]:
        return (state for _topic, state in self._topics if isinstance(state, AwaitsWorkflows))

    def opening(self, milliseconds: int) -> Sequence[Block]:
        return [
            topic.wrap(block)
            for topic, state in self._topics
            if state is not None
            for block in state.opening(milliseconds)
        ]

    def copy(self) -> Self:
        # Without their state, the other topics show the same.
        return type(self)(
            [(topic, state.copy() if _can_rewind(state) else None) for topic, state in self._topics]
        )

    def rewind(self, before: Mapping[str, EarlierStatus]) -> None:
        for _topic, state in self._topics:
            if _can_rewind(state):
                state.rewind(before)


def _can_rewind(state: State | None) -> TypeGuard[CumulativeState]:
    return isinstance(state, CumulativeState)


def _state(dialect: Dialect, snapshot: Snapshot) -> State | None:
    query = dialect.snapshot_query
    if query is None:
        return None
    workflows = query.workflows
    if workflows is None:
        return dialect.begin(snapshot)
    # The snapshot also contains what other topics need.
    return dialect.begin(
        snapshot._replace(
            executions=[
                each for each in snapshot.executions if each.context.workflow_id in workflows
            ],
            ended={name: ended for name, ended in snapshot.ended.items() if name in workflows},
            workflows=snapshot.workflows & workflows,
        )
    )


@dataclass(frozen=True, slots=True)
class Multiplex(Dialect):
    """The dialect of several topics."""

    topics: tuple[NamedTopic, ...]

    name = "multiplex"
    needs = "context"
    # Each topic decides itself what it shows of newer versions' commits.
    is_verbatim = True
    # Few pages show the same topics, so a topic has few followers.
    ring_share = 1 / 16

    @property
    def slots(self) -> int:
        return sum(topic.dialect.slots for topic in self.topics)

    @property
    def snapshot_query(self) -> SnapshotQuery | None:
        queries = [query for topic in self.topics if (query := topic.dialect.snapshot_query)]
        if not queries:
            return None
        workflows = [query.workflows for query in queries if query.workflows is not None]
        return SnapshotQuery(
            waits=any(query.waits for query in queries),
            workflows=frozenset().union(*workflows) if workflows else None,
        )

    def greet(self, part: LogFilter, milliseconds: int) -> Block | None:
        """Return the block with which each connection begins at a time (Unix ms), if any."""
        for topic in self.topics:
            if not topic.execution and (block := topic.dialect.greet(part, milliseconds)):
                return topic.wrap(block)
        return None

    def show(self, context: Context, event: LoggedEvent, stored: msgspec.Raw) -> Slots:
        return tuple(
            chain.from_iterable(topic.render(context, event, stored) for topic in self.topics)
        )

    def begin(self, snapshot: Snapshot) -> State:
        return _States([(topic, _state(topic.dialect, snapshot)) for topic in self.topics])

    @property
    def backfill_executions(self) -> Sequence[str]:
        return [topic.execution for topic in self.topics if topic.execution]

    def backfill(self, execution: str, payload: bytes | None) -> Sequence[Block]:
        topic = next(topic for topic in self.topics if topic.execution == execution)
        if payload is None:
            data = {"execution_id": execution, "message": f"there is no execution {execution!r}"}
            return [topic.wrap(Block("error", _encode(data)))]
        rendered = (topic.show(mask_event(stored)) for stored in split_commit(payload))
        return [block for slots in rendered for block in slots if block is not None]

    def concerns(self, context: Context, payload: bytes) -> bool:
        return any(
            topic.includes(context) and topic.dialect.concerns(context, payload)
            for topic in self.topics
        )

    def is_urgent(self, context: Context) -> bool:
        return any(
            topic.includes(context) and topic.dialect.is_urgent(context) for topic in self.topics
        )


class CumulativeMultiplex(Multiplex):
    """The dialect of several topics of which at least one is cumulative."""

    __slots__ = ()

    is_cumulative = True


def multiplex(topics: Sequence[NamedTopic]) -> Multiplex:
    is_cumulative = any(topic.dialect.is_cumulative for topic in topics)
    return (CumulativeMultiplex if is_cumulative else Multiplex)(tuple(topics))
