"""Combine several topics in one stream, each block under the name of its topic.

A block has the topic's name as the client wrote it, and its data is ``{"topic", "event", "data"}``:
the name and the data of the block in the topic's own stream.

**Ids** do not depend on which topics a stream has. Each kind of topic has slots of its own among
the `STRIDE` slots of an event, so no two topics of a stream share one. So all streams of a topic
share its bytes, an id is valid for any topics, and a stream goes on after a change of its topics.
The indexes begin at `FIRST_INDEX`, because ids of version 0.2 did depend on the topics: an index
below it is one of those (`Multiplex.upgraded`).

The hub combines topics from their encoded blocks. The dialect of several topics is used for history
that no topic has encoded.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

import msgspec

from tailrace_api.dialects.block import Block
from tailrace_api.dialects.context import Context
from tailrace_api.dialects.dialect import (
    FIRST_INDEX,
    AwaitsWorkflows,
    CumulativeState,
    Dialect,
    LoggedEvent,
    Needs,
    Slots,
    State,
)
from tailrace_api.dialects.encoding import render
from tailrace_api.dialects.snapshot import EarlierStatus, Snapshot, SnapshotQuery
from tailrace_shared.subjects import LogFilter

STRIDE: Final = 64
"""The slots of an event, of all kinds of topics together."""

#: The event name of wrapped blocks without a name, as in browsers.
_DEFAULT_NAME: Final = "message"

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class NamedTopic(Dialect):
    """The dialect of one topic of a multiplexed stream.

    Attributes:
        name: its name, as the client wrote it.
        dialect: the dialect of its own stream.
        execution: its execution; empty for all executions of the tenant.
    """

    name: str  # type: ignore[misc]
    dialect: Dialect
    execution: str = ""

    is_endless = True
    first_index = FIRST_INDEX

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        return self.dialect.needs

    @property
    def is_verbatim(self) -> bool:  # type: ignore[override]
        return self.dialect.is_verbatim

    @property
    def is_cumulative(self) -> bool:  # type: ignore[override]
        return self.dialect.is_cumulative

    @property
    def ring_share(self) -> float:  # type: ignore[override]
        # Few clients follow the same execution over such a stream.
        return 1 / 16 if self.execution else self.dialect.ring_share

    @property
    def slots(self) -> int:
        return self.dialect.slots

    @property
    def earlier_slots(self) -> int:
        return self.dialect.earlier_slots

    @property
    def stride(self) -> int:
        return STRIDE

    @property
    def first_slot(self) -> int:
        return self.dialect.topic_slot

    @property
    def workflows(self) -> frozenset[str] | None:
        return self.dialect.workflows

    @property
    def snapshot_query(self) -> SnapshotQuery | None:
        return self.dialect.snapshot_query

    @property
    def has_opening(self) -> bool:
        """Whether a stream begins with past events or a snapshot; otherwise with what comes."""
        return bool(self.execution) or self.snapshot_query is not None

    def includes(self, context: Context) -> bool:
        return not self.execution or self.execution == context.execution_id

    def wrap(self, block: Block) -> Block:
        """Return a block of the topic's own stream as a block of the multiplexed stream."""
        topic, event = _encode(self.name), _encode(block.name or _DEFAULT_NAME)
        data = b'{"topic":%b,"event":%b,"data":%b}' % (topic, event, block.data)
        return Block(self.name, data, tuple(map(self.wrap, block.before)))

    def wrapped(self, shown: Slots) -> Slots:
        return tuple(None if block is None else self.wrap(block) for block in shown)

    def greet(self, part: LogFilter, milliseconds: int) -> Block | None:
        """Return the block with which each connection begins at a time (Unix ms), if any."""
        if self.execution:
            return None
        block = self.dialect.greet(part, milliseconds)
        return None if block is None else self.wrap(block)

    def show(self, context: Context, event: LoggedEvent, stored: msgspec.Raw) -> Slots:
        return self.wrapped(self.dialect.show(context, event, stored))

    def begin(self, snapshot: Snapshot) -> "NamedState":
        state = self.dialect.begin(snapshot)
        kind = CumulativeNamedState if isinstance(state, CumulativeState) else NamedState
        return kind(self, state)

    def concerns(self, context: Context, payload: bytes) -> bool:
        return self.includes(context) and self.dialect.concerns(context, payload)

    def is_urgent(self, context: Context) -> bool:
        return self.dialect.is_urgent(context)

    def absence(self) -> Block:
        """Return the block with which a stream begins if the topic's execution does not exist."""
        message = f"there is no execution {self.execution!r}"
        data = {"execution_id": self.execution, "message": message}
        return self.wrap(Block("error", _encode(data)))


class NamedState:
    """The state of a topic of a multiplexed stream."""

    def __init__(self, topic: NamedTopic, state: State) -> None:
        self.topic = topic
        self._state = state

    @property
    def size(self) -> int:
        return self._state.size

    def show(self, context: Context, event: LoggedEvent, stored: msgspec.Raw) -> Slots:
        return self.topic.wrapped(self._state.show(context, event, stored))

    def opening(self, milliseconds: int) -> Sequence[Block]:
        return [self.topic.wrap(block) for block in self._state.opening(milliseconds)]

    @property
    def missing(self) -> frozenset[str]:
        return self._state.missing if isinstance(self._state, AwaitsWorkflows) else frozenset()

    def add_workflows(self, workflows: Collection[str]) -> None:
        if isinstance(self._state, AwaitsWorkflows):
            self._state.add_workflows(workflows)


class CumulativeNamedState(NamedState):
    """The state of a cumulative topic."""

    _state: CumulativeState

    def copy(self) -> Self:
        return type(self)(self.topic, self._state.copy())

    def rewind(self, before: Mapping[str, EarlierStatus]) -> None:
        self._state.rewind(before)


class MultiplexState:
    """The states of some topics at one position of a tenant's log.

    Args:
        states: by topic. A topic without one shows the same without it.
    """

    def __init__(self, topics: Sequence[NamedTopic], states: Mapping[NamedTopic, State]) -> None:
        self._topics = topics
        self._states = states

    @property
    def size(self) -> int:
        return sum(state.size for state in self._states.values())

    def show(self, context: Context, event: LoggedEvent, stored: msgspec.Raw) -> Slots:
        shown: list[Block | None] = [None] * STRIDE
        for topic in self._topics:
            if topic.includes(context):
                show = self._states.get(topic, topic).show
                for place, block in enumerate(
                    render(topic, show, context, event, stored), topic.first_slot
                ):
                    shown[place] = block or shown[place]
        return tuple(shown)

    def opening(self, milliseconds: int) -> Sequence[Block]:
        states = (self._states[topic] for topic in self._topics if topic in self._states)
        return [block for state in states for block in state.opening(milliseconds)]

    def copy(self) -> Self:
        # Without their state, the other topics show the same.
        copied = {
            topic: state.copy()
            for topic, state in self._states.items()
            if isinstance(state, CumulativeState)
        }
        return type(self)(self._topics, copied)

    def rewind(self, before: Mapping[str, EarlierStatus]) -> None:
        for state in self._states.values():
            if isinstance(state, CumulativeState):
                state.rewind(before)


@dataclass(frozen=True, slots=True)
class Multiplex(Dialect):
    """The dialect of several topics."""

    topics: tuple[NamedTopic, ...]

    name = "multiplex"
    needs = "context"
    # Each topic decides itself what it shows of newer versions' commits.
    is_verbatim = True
    is_endless = True
    first_index = FIRST_INDEX

    @property
    def is_cumulative(self) -> bool:  # type: ignore[override]
        return any(topic.is_cumulative for topic in self.topics)

    @property
    def slots(self) -> int:
        return STRIDE

    @property
    def snapshot_query(self) -> SnapshotQuery | None:
        queries = [query for topic in self.topics if (query := topic.snapshot_query)]
        return SnapshotQuery.union(queries) if queries else None

    def greet(self, part: LogFilter, milliseconds: int) -> Block | None:
        """Return the block with which each connection begins at a time (Unix ms), if any."""
        for topic in self.topics:
            if block := topic.greet(part, milliseconds):
                return block
        return None

    def show(self, context: Context, event: LoggedEvent, stored: msgspec.Raw) -> Slots:
        return MultiplexState(self.topics, {}).show(context, event, stored)

    def begin(self, snapshot: Snapshot) -> MultiplexState:
        asked = ((topic, topic.snapshot_query) for topic in self.topics)
        return MultiplexState(
            self.topics,
            {topic: topic.begin(snapshot.restricted(query)) for topic, query in asked if query},
        )

    def concerns(self, context: Context, payload: bytes) -> bool:
        return any(topic.concerns(context, payload) for topic in self.topics)

    def is_urgent(self, context: Context) -> bool:
        return any(topic.includes(context) and topic.is_urgent(context) for topic in self.topics)

    def to_open(self, had: Collection[str] = ()) -> tuple[NamedTopic, ...]:
        """Return the topics that a client must be sent the beginning of, but for some that it had.

        Args:
            had: names of topics.
        """
        return tuple(each for each in self.topics if each.has_opening and each.name not in had)

    def upgraded(self, index: int) -> int:
        """Return the index that an index of version 0.2 has become; its slots were the topics'."""
        if index >= FIRST_INDEX:
            return index
        # A stream of version 0.2 had another topic, if all of these are of kinds that it lacks.
        slots = sum(topic.earlier_slots for topic in self.topics) or 1
        event, slot = divmod(index, slots)
        for topic in self.topics:
            if slot < topic.earlier_slots:
                break
            slot -= topic.earlier_slots
        return FIRST_INDEX + event * STRIDE + topic.first_slot + slot


def multiplex(topics: Sequence[NamedTopic]) -> Multiplex:
    return Multiplex(tuple(topics))
