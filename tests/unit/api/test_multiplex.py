"""Many topics in one stream: each says there what it would say alone."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.generators.dialect_story import (
    BAD,
    EPOCH,
    FIRST,
    GOOD,
    LEFT,
    STORY,
    StoryCommit,
    at,
    broken,
    waiting,
    wire,
)
from harness.sse.client import SseParser
from tailrace_api.dialects.block import Block
from tailrace_api.dialects.context import Context
from tailrace_api.dialects.dialect import FIRST_INDEX, CumulativeState, Dialect, LoggedEvent, Slots
from tailrace_api.dialects.encoding import encode_commit, without_id
from tailrace_api.dialects.execution import EXECUTION
from tailrace_api.dialects.multiplex import STRIDE, Multiplex, NamedTopic, multiplex
from tailrace_api.dialects.paused_workflows import PAUSED_WORKFLOWS
from tailrace_api.dialects.pipeline_status import Pipelines
from tailrace_api.dialects.snapshot import (
    EarlierStatus,
    Ended,
    ExecutionStatus,
    Snapshot,
    SnapshotQuery,
    WaitingStep,
)
from tailrace_api.dialects.tenant_feed import TENANT_FEED
from tailrace_shared.execution import events as ev
from tailrace_shared.execution.commits import encode_commits
from tailrace_shared.subjects import LogFilter

PAUSED = NamedTopic("paused", PAUSED_WORKFLOWS)
FEED = NamedTopic("feed", TENANT_FEED)
ONE = NamedTopic(f"execution:{GOOD.execution_id}", EXECUTION, GOOD.execution_id)
OTHER = NamedTopic(f"execution:{LEFT.execution_id}", EXECUTION, LEFT.execution_id)
ALL = multiplex([ONE, PAUSED, FEED, OTHER])

Event = tuple[str, Any]


def alone(topic: NamedTopic) -> list[Event]:
    """Return the names and data of a topic's dedicated stream."""
    commits = [story_commit for story_commit in STORY if topic.includes(story_commit.context)]
    parsed = SseParser().feed(b"".join(wire(topic.dialect, commits)))
    return [(event.type, event.json()) for event in parsed]


@pytest.mark.parametrize("topic", ALL.topics, ids=lambda topic: topic.name)
def test_each_topic_renders_as_in_its_own_stream(topic: NamedTopic) -> None:
    """Its name precedes the name of the block."""
    parsed = SseParser().feed(b"".join(wire(ALL, STORY)))
    mine = [event for event in parsed if event.type == topic.name]
    assert {event.json()["topic"] for event in mine} == {topic.name}
    assert [(event.json()["event"], event.json()["data"]) for event in mine] == alone(topic)


def test_ids_do_not_depend_on_the_other_topics() -> None:
    """Each kind of topic has slots of its own; those of version 0.2 differ."""
    for number, story_commit in enumerate(STORY):
        commit = encode_commit(
            ALL, EPOCH, story_commit.context, FIRST + number, story_commit.payload
        )
        assert commit.last_index == FIRST_INDEX + STRIDE * len(story_commit.events) - 1
    parsed = SseParser().feed(b"".join(wire(ALL, STORY)))
    indexes = [(event.type, int(event.id.split("-")[2]) - FIRST_INDEX) for event in parsed]
    assert {(topic, index % STRIDE) for topic, index in indexes} == {
        (ONE.name, 0),
        (OTHER.name, 0),
        ("paused", 16),
        ("paused", 17),
        ("feed", 2),
        ("feed", 3),
    }
    for topic in ALL.topics:
        mine = [event for event in parsed if event.type == topic.name]
        commits = [story_commit for story_commit in STORY if topic.includes(story_commit.context)]
        alone = SseParser().feed(b"".join(wire(multiplex([topic]), commits)))
        assert [event.id.split("-")[2] for event in mine] == [
            event.id.split("-")[2] for event in alone
        ]


def test_an_id_of_version_0_2_names_the_same_event() -> None:
    """Its slots were those of the topics, one after the other."""
    (event, slot), topics = (3, 4), multiplex([ONE, PAUSED, FEED, OTHER])
    assert topics.upgraded(event * 5 + slot) == FIRST_INDEX + event * STRIDE
    assert topics.upgraded(event * 5 + 2) == FIRST_INDEX + event * STRIDE + 2
    assert topics.upgraded(FIRST_INDEX + 7) == FIRST_INDEX + 7


def test_topics_in_another_order_are_another_dialect() -> None:
    """Equal ones are shared."""
    assert multiplex([ONE, PAUSED]) == multiplex([ONE, PAUSED])
    assert hash(multiplex([ONE, PAUSED])) == hash(multiplex([ONE, PAUSED]))
    assert multiplex([ONE, PAUSED]) != multiplex([PAUSED, ONE])


def test_a_stream_is_greeted_and_opened_by_each_topic_that_does_so() -> None:
    """A plain message is called so; its data is passed on as it is."""
    greeting = ALL.greet(LogFilter("merchant-7"), 17)
    (event,) = SseParser().feed(without_id([greeting] if greeting else []))
    assert (event.type, event.json()) == (
        "feed",
        {
            "topic": "feed",
            "event": "message",
            "data": {"type": "connected", "merchantId": "merchant-7", "timestamp": 17},
        },
    )
    assert multiplex([ONE, PAUSED]).greet(LogFilter("t"), 17) is None
    state = ALL.begin(Snapshot(0, (), {}, frozenset()))
    (event,) = SseParser().feed(without_id(state.opening(0)))
    assert (event.type, event.json()["event"]) == ("paused", "paused.initial")


def test_states_show_what_the_topics_show() -> None:
    """After the events, it opens with the same list as the stream of the topic."""
    state = ALL.begin(Snapshot(0, (), {}, frozenset()))
    alone = PAUSED_WORKFLOWS.begin(Snapshot(0, (), {}, frozenset()))
    for story_commit in STORY:
        assert [*wire(ALL, [story_commit], state.show)] == [*wire(ALL, [story_commit])]
        list(wire(PAUSED_WORKFLOWS, [story_commit], alone.show))
        (block,) = state.opening(0)
        assert block == PAUSED.wrap(alone.opening(0)[0])


class _WorkflowList(Dialect):
    """A dialect that opens with the executions of some workflows that it knows of."""

    name = "workflow-list"
    is_cumulative = True

    def __init__(self, *workflows: str) -> None:
        self._workflows = frozenset(workflows)

    @property
    def snapshot_query(self) -> SnapshotQuery:
        return SnapshotQuery(workflows=self._workflows)

    def begin(self, snapshot: Snapshot) -> "_Known":
        known = [each.context.execution_id for each in snapshot.executions]
        return _Known(" ".join([*known, *snapshot.ended, *sorted(snapshot.workflows)]))

    def is_urgent(self, context: Context) -> bool:
        return context.workflow_id == "a"


class _Known:
    def __init__(self, known: str) -> None:
        self._known = known

    @property
    def size(self) -> int:
        return len(self._known)

    def show(self, context: Context, event: LoggedEvent, stored: Any) -> Slots:
        del context, event, stored
        return (None,)

    def opening(self, milliseconds: int) -> list[Block]:
        del milliseconds
        return [Block("known", f'"{self._known}"'.encode())]


def test_each_topic_begins_with_what_it_has_asked_for() -> None:
    """The needs of other topics do not matter."""
    a, b = (
        NamedTopic("pipeline:a", _WorkflowList("a")),
        NamedTopic("pipeline:b", _WorkflowList("b")),
    )
    both = multiplex([a, PAUSED, b])
    assert a.snapshot_query == SnapshotQuery(workflows=frozenset("a"))
    assert both.is_cumulative
    assert not ALL.is_cumulative
    assert FEED.snapshot_query is None
    wait = WaitingStep("n", "2024-01-15T10:30:00.000Z", "", [], None)
    statuses = [ExecutionStatus(Context(f"e-{w}", w, w), "paused", [wait]) for w in "abc"]
    ended = {"a": Ended("e0", "failed", "2024-01-15T10:30:00.000Z")}
    state = both.begin(Snapshot(1, statuses, ended, frozenset("ab")))
    first, paused, second = (
        event.json() for event in SseParser().feed(without_id(state.opening(0)))
    )
    assert (first["data"], second["data"]) == ("e-a a a", "e-b b")
    assert len(paused["data"]["pausedWorkflows"]) == 3


def test_what_is_urgent_for_one_topic_is_urgent() -> None:
    """Events that are urgent for no topic may be written later."""
    mixed = multiplex([NamedTopic("pipeline:a", _WorkflowList("a"))])
    assert mixed.is_urgent(Context("e", "a"))
    assert not mixed.is_urgent(Context("e", "b"))
    assert multiplex([*mixed.topics, FEED]).is_urgent(Context("e", "b"))


def test_what_concerns_no_topic_is_not_opened() -> None:
    """A stream of what waits alone need not read the rest."""
    quiet: Multiplex = multiplex([PAUSED])
    assert not quiet.concerns(GOOD, STORY[0].payload)
    assert ALL.concerns(GOOD, STORY[0].payload)
    assert multiplex([ONE, PAUSED]).concerns(GOOD, STORY[0].payload)
    assert not multiplex([OTHER, PAUSED]).concerns(GOOD, STORY[0].payload)


def test_a_state_that_is_rewound_shows_what_each_topic_would() -> None:
    """Those that depend on what was before as they do alone, the others as always."""
    pipeline = NamedTopic("pipeline:purchase-order", Pipelines(frozenset({"purchase-order"})))
    both = multiplex([PAUSED, pipeline])
    empty = Snapshot(0, (), {}, frozenset({"purchase-order"}))
    state, alone = both.begin(empty), pipeline.dialect.begin(empty)
    list(wire(both, STORY, state.show))
    list(wire(pipeline.dialect, STORY, alone.show))
    assert isinstance(state, CumulativeState)
    assert isinstance(alone, CumulativeState)
    place = 8
    before = {
        GOOD.execution_id: EarlierStatus("purchase-order", "paused"),
        BAD.execution_id: EarlierStatus("purchase-order", "running"),
        LEFT.execution_id: EarlierStatus("purchase-order", "paused"),
    }
    rewound, rewound_alone = state.copy(), alone.copy()
    rewound.rewind(before)
    rewound_alone.rewind(before)
    shown = SseParser().feed(b"".join(wire(both, STORY[place:], rewound.show)))
    for topic, frames in (
        (PAUSED, wire(PAUSED_WORKFLOWS, STORY[place:])),
        (pipeline, wire(pipeline.dialect, STORY[place:], rewound_alone.show)),
    ):
        expected = SseParser().feed(b"".join(frames))
        assert expected
        assert [
            (event.json()["event"], event.json()["data"])
            for event in shown
            if event.type == topic.name
        ] == [(event.type, event.json()) for event in expected]


def test_sensitive_values_are_masked() -> None:
    """In every topic."""
    secret = ev.Completed(GOOD.execution_id, "completed", 1, {"pin": 1234}, sensitive=["/pin"])
    (payload,) = encode_commits([ev.ExecutionCompleted(secret, at(1))])
    frames = encode_commit(ALL, EPOCH, GOOD, 1, payload).frames
    assert frames
    assert b"1234" not in frames


def test_an_execution_that_does_not_exist_is_reported() -> None:
    """A browser would not see a status."""
    (event,) = SseParser().feed(without_id([ONE.absence()]))
    assert event.json() == {
        "topic": ONE.name,
        "event": "error",
        "data": {
            "execution_id": ONE.execution,
            "message": f"there is no execution {ONE.execution!r}",
        },
    }


@given(text=st.text(), key=st.text())
def test_no_text_breaks_out_of_its_field(text: str, key: str) -> None:
    """Wrapped twice: one block for each slot, and the text as it was."""
    context = Context(GOOD.execution_id, "w", text, {key: text})
    story_commit = StoryCommit(
        context, [waiting("n", 5, reason=text), broken("n", 6, text, "t", stage=text)]
    )
    frames = encode_commit(ALL, EPOCH, context, 1, story_commit.payload).frames
    parsed = [event.json() for event in SseParser().feed(frames)]
    assert [event["topic"] for event in parsed] == [ONE.name, "paused", ONE.name, "feed"]
    assert parsed[1]["data"]["variables"] == {key: text}
    assert parsed[2]["data"]["data"]["error"] == parsed[3]["data"]["error"] == text
