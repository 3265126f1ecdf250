"""Many streams in one: what each topic's dialect says, under the topic's name.

A block is named as the client wrote the topic, and its data is ``{"topic", "event", "data"}``: what
the block would be in the topic's own stream. An event has the slots of all topics, one topic after
the other; so an id means something only with the same topics.

A stream that is new begins with the snapshots of its topics, and with all events of its executions
up to there, which have no ids: the place from which it goes on is that of all topics.
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
    Cumulative,
    Dialect,
    LoggedEvent,
    Slots,
    State,
    tell,
)
from tailrace_api.dialects.snapshot import EarlierStatus, Snapshot, SnapshotQuery
from tailrace_shared.execution.commits import split_commit
from tailrace_shared.redact.masking import mask_event
from tailrace_shared.subjects import LogFilter

#: What a block without a name is called where it is wrapped, as a browser calls it.
_UNNAMED: Final = "message"

_encode = msgspec.json.Encoder().encode
_decode_event = msgspec.json.Decoder(LoggedEvent).decode


@dataclass(frozen=True, slots=True)
class NamedTopic:
    """One of the streams.

    Attributes:
        name: as the client wrote it.
        dialect: how it speaks.
        execution: which execution it is about; empty for all of the tenant's.
    """

    name: str
    dialect: Dialect
    execution: str = ""

    def is_about(self, context: Context) -> bool:
        """Tell whether the topic is about an execution."""
        return not self.execution or self.execution == context.execution_id

    def wrap(self, block: Block) -> Block:
        """Return a block as it is in the stream of all topics."""
        head = {"topic": self.name, "event": block.name or _UNNAMED}
        return Block(self.name, _encode({**head, "data": msgspec.Raw(block.data)}))

    def show(self, stored: msgspec.Raw) -> Slots:
        """Return what is shown of an event of the topic's execution."""
        event, context = _decode_event(stored), Context(self.execution)
        return self.slots_of(tell(self.dialect, self.dialect.show, context, event, stored))

    def tell(
        self, context: Context, event: LoggedEvent, stored: msgspec.Raw, state: State | None = None
    ) -> Slots:
        """Return what is shown of an event, by the topic's state if it has one."""
        if not self.is_about(context):
            return self.slots_of(None)
        show = (state or self.dialect).show
        return self.slots_of(tell(self.dialect, show, context, event, stored))

    def slots_of(self, shown: Slots | None) -> Slots:
        """Return what is shown of an event, in as many slots as there are; None: nothing."""
        if shown is None:
            return (None,) * self.dialect.slots
        return tuple(None if block is None else self.wrap(block) for block in shown)


class _States:
    """The states of all topics that have one, at one place of a tenant's log."""

    def __init__(self, topics: Sequence[tuple[NamedTopic, State | None]]) -> None:
        self._topics = topics

    @property
    def size(self) -> int:
        return sum(state.size for _topic, state in self._topics if state is not None)

    def show(self, context: Context, event: LoggedEvent, stored: msgspec.Raw) -> Slots:
        return tuple(
            chain.from_iterable(
                topic.tell(context, event, stored, state) for topic, state in self._topics
            )
        )

    @property
    def missing(self) -> frozenset[str]:
        return frozenset().union(*(state.missing for state in self._expectant()))

    def found(self, workflows: Collection[str]) -> None:
        for state in self._expectant():
            state.found(workflows)

    def _expectant(self) -> Iterator[AwaitsWorkflows]:
        return (state for _topic, state in self._topics if isinstance(state, AwaitsWorkflows))

    def opening(self, milliseconds: int) -> Sequence[Block]:
        return [
            topic.wrap(block)
            for topic, state in self._topics
            if state is not None
            for block in state.opening(milliseconds)
        ]

    def copy(self) -> Self:
        # The others show of an event what their dialect shows.
        return type(self)(
            [(topic, state.copy() if _can_rewind(state) else None) for topic, state in self._topics]
        )

    def rewind(self, before: Mapping[str, EarlierStatus]) -> None:
        for _topic, state in self._topics:
            if _can_rewind(state):
                state.rewind(before)


def _can_rewind(state: State | None) -> TypeGuard[Cumulative]:
    return isinstance(state, Cumulative)


def _state(dialect: Dialect, snapshot: Snapshot) -> State | None:
    wants = dialect.wants
    if wants is None:
        return None
    workflows = wants.workflows
    if workflows is None:
        return dialect.begin(snapshot)
    # What others want of it is none of this topic's business.
    return dialect.begin(
        snapshot._replace(
            standings=[
                each for each in snapshot.standings if each.context.workflow_id in workflows
            ],
            ended={name: ended for name, ended in snapshot.ended.items() if name in workflows},
            workflows=snapshot.workflows & workflows,
        )
    )


@dataclass(frozen=True, slots=True)
class Multiplex(Dialect):
    """The dialect of several topics.

    Attributes:
        topics: in the order in which the client named them.
    """

    topics: tuple[NamedTopic, ...]

    name = "multiplex"
    needs = "context"
    # What each topic passes over of what newer versions have written, it says itself.
    is_verbatim = True
    # Hardly two pages show the same topics.
    ring_share = 1 / 16

    @property
    def slots(self) -> int:
        """How many slots an event has."""
        return sum(topic.dialect.slots for topic in self.topics)

    @property
    def wants(self) -> SnapshotQuery | None:
        """What a state begins with; None: there is no state."""
        wanted = [wants for topic in self.topics if (wants := topic.dialect.wants)]
        if not wanted:
            return None
        workflows = [wants.workflows for wants in wanted if wants.workflows is not None]
        return SnapshotQuery(
            waits=any(wants.waits for wants in wanted),
            workflows=frozenset().union(*workflows) if workflows else None,
        )

    def greet(self, part: LogFilter, milliseconds: int) -> Block | None:
        """Return the block with which each connection begins, at a time since the epoch."""
        for topic in self.topics:
            if not topic.execution and (block := topic.dialect.greet(part, milliseconds)):
                return topic.wrap(block)
        return None

    def show(self, context: Context, event: LoggedEvent, stored: msgspec.Raw) -> Slots:
        """Return what is shown of an event."""
        return tuple(
            chain.from_iterable(topic.tell(context, event, stored) for topic in self.topics)
        )

    def begin(self, snapshot: Snapshot) -> State:
        """Return a state that stands where a snapshot was taken."""
        return _States([(topic, _state(topic.dialect, snapshot)) for topic in self.topics])

    @property
    def recounted(self) -> Sequence[str]:
        """The executions of which a stream that is new is told what came before."""
        return [topic.execution for topic in self.topics if topic.execution]

    def recount(self, execution: str, payload: bytes | None) -> Sequence[Block]:
        """Return what a stream that is new is told of a commit before it."""
        topic = next(topic for topic in self.topics if topic.execution == execution)
        if payload is None:
            data = {"execution_id": execution, "message": f"there is no execution {execution!r}"}
            return [topic.wrap(Block("error", _encode(data)))]
        told = (topic.show(mask_event(stored)) for stored in split_commit(payload))
        return [block for slots in told for block in slots if block is not None]

    def concerns(self, context: Context, payload: bytes) -> bool:
        """Tell whether anything may be shown of a commit."""
        return any(
            topic.is_about(context) and topic.dialect.concerns(context, payload)
            for topic in self.topics
        )

    def is_urgent(self, context: Context) -> bool:
        """Tell whether what is shown of an execution is to be written at once."""
        return any(
            topic.is_about(context) and topic.dialect.is_urgent(context) for topic in self.topics
        )


class CumulativeMultiplex(Multiplex):
    """The dialect of several topics of which one shows an event by those before it."""

    __slots__ = ()

    is_cumulative = True


def multiplex(topics: Sequence[NamedTopic]) -> Multiplex:
    """Return the dialect of several topics."""
    is_cumulative = any(topic.dialect.is_cumulative for topic in topics)
    return (CumulativeMultiplex if is_cumulative else Multiplex)(tuple(topics))
