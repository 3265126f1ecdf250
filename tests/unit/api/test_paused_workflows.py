"""The dialect of paused workflows: the blocks of each wait, and the list of all waits."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.generators import dialect_story as story
from harness.generators.dialect_story import BAD, GOOD, LEFT, STORY, StoryCommit, at
from harness.sse.client import SseParser
from tailrace_api.dialects.block import Block
from tailrace_api.dialects.context import Context
from tailrace_api.dialects.dialect import State
from tailrace_api.dialects.encoding import encode_commit, without_id
from tailrace_api.dialects.paused_workflows import MAX_LISTED, PAUSED_WORKFLOWS
from tailrace_api.dialects.snapshot import ExecutionStatus, Snapshot, WaitingStep
from tailrace_shared.execution import events as ev

NOTHING = Snapshot(0, (), {}, frozenset())


def shown(context: Context, *events: ev.Event) -> list[tuple[str, Any]]:
    """Return what is shown of a commit: names and data."""
    story_commit = StoryCommit(context, [*events])
    wire = encode_commit(PAUSED_WORKFLOWS, "1", context, 1, story_commit.payload).frames
    return [(event.type, event.json()) for event in SseParser().feed(wire)]


def listed(state: State) -> dict[str, Any]:
    """Return the list with which a stream would begin."""
    (block,) = state.opening(0)
    assert block.name == "paused.initial"
    found: dict[str, Any] = msgspec.json.decode(block.data)
    return found


def take(state: State, story_commit: StoryCommit) -> None:
    """Apply a commit to a state."""
    encode_commit(PAUSED_WORKFLOWS, "1", story_commit.context, 1, story_commit.payload, state.show)


def test_a_wait_is_shown_with_all_that_the_list_has() -> None:
    """It has the fields of the page's own type, and the reason of the wait."""
    wait = story.waiting(
        "wait-payment",
        5,
        reason="payment",
        triggers=[story.TRIGGER],
        until="2024-01-16T10:30:00.000Z",
    )
    assert shown(GOOD, wait) == [
        (
            "workflow.paused",
            {
                "executionId": GOOD.execution_id,
                "workflowId": "purchase-order",
                "workflowName": "Purchase order intake",
                "pausedAt": "wait-payment",
                "pausedTime": at(5),
                "waitingFor": [story.TRIGGER],
                "timeoutAt": "2024-01-16T10:30:00.000Z",
                "variables": {"poId": "po-1", "größe": 1.5},
                "reason": "payment",
            },
        )
    ]


def test_an_approval_waits_for_no_procedure() -> None:
    """Missing values are empty, so a page need not check for them."""
    ((_, data),) = shown(LEFT, story.waiting("sign", 5, reason="approval"))
    assert (data["waitingFor"], data["timeoutAt"], data["variables"]) == ([], None, {})
    assert data["reason"] == "approval"


@pytest.mark.parametrize("wait", ["time", "child", "actor"])
def test_only_steps_that_wait_for_a_signal_are_paused(wait: Any) -> None:
    """A delay goes on by itself."""
    data = ev.StepWait("n", "delay", "waiting", at(9), wait=wait)
    assert shown(GOOD, ev.StepWaiting(data, at(1))) == []


def test_a_signal_resumes() -> None:
    """A step that does not wait, or whose output a rerun has kept, is none of this stream's."""
    ids = {"executionId": GOOD.execution_id, "workflowId": "purchase-order"}
    assert shown(GOOD, story.done("approve", 5, {}, "await")) == [
        ("workflow.resumed", {**ids, "resumedFrom": "approve"})
    ]
    assert shown(GOOD, story.done("approve", 5, {}, "await", kept_from="e0")) == []
    assert shown(GOOD, story.done("parse", 5, {}, "po.parse")) == []


def test_a_wait_that_failed_is_cancelled_at_its_step() -> None:
    """Another step of the execution may still wait; one that never waited says nothing."""
    failed = story.broken("approve", 5, "timed out after 5s", "await", waited=True)
    assert shown(GOOD, failed) == [
        (
            "workflow.cancelled",
            {
                "executionId": GOOD.execution_id,
                "workflowId": "purchase-order",
                "reason": "timed out after 5s",
                "pausedAt": "approve",
            },
        )
    ]
    assert shown(GOOD, story.broken("approve", 5, "when: no such key", "await")) == []


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (ev.Cancelled("e", "cancelled", 1, "enough", waiting=["a"]), "enough"),
        (ev.Cancelled("e", "cancelled", 1, waiting=["a"]), "cancelled"),
        (ev.Failed("e", "failed", 1, "no such version", waiting=["a", "b"]), "no such version"),
    ],
)
def test_an_execution_that_ends_cancels_what_waits_in_it(end: Any, reason: str) -> None:
    """Once for all of its steps; one in which nothing waited says nothing."""
    kind: Any = ev.ExecutionCancelled if isinstance(end, ev.Cancelled) else ev.ExecutionFailed
    assert shown(GOOD, kind(end, at(1))) == [
        (
            "workflow.cancelled",
            {
                "executionId": GOOD.execution_id,
                "workflowId": "purchase-order",
                "reason": reason,
            },
        )
    ]
    assert shown(GOOD, kind(msgspec.structs.replace(end, waiting=[]), at(1))) == []


@pytest.mark.parametrize(
    "end",
    [
        ev.ExecutionCancelled(ev.Cancelled(GOOD.execution_id, "cancelled", 1), at(9)),
        ev.ExecutionFailed(ev.Failed(GOOD.execution_id, "failed", 1, "no"), at(9)),
        ev.ExecutionCompleted(ev.Completed(GOOD.execution_id, "completed", 1, None), at(9)),
    ],
)
def test_an_ended_execution_has_no_waits(end: ev.Event) -> None:
    """Older workers do not say which steps waited; waits of other executions stay."""
    state = PAUSED_WORKFLOWS.begin(NOTHING)
    empty = state.size
    for context in (GOOD, LEFT):
        for step in ("a", "b"):
            take(state, StoryCommit(context, [story.waiting(step, 5)]))
    ended = StoryCommit(GOOD, [end])
    assert PAUSED_WORKFLOWS.concerns(GOOD, ended.payload)
    take(state, ended)
    left = [entry["executionId"] for entry in listed(state)["pausedWorkflows"]]
    assert left == [LEFT.execution_id] * 2
    take(state, StoryCommit(LEFT, [end]))
    assert listed(state) == {"pausedWorkflows": []}
    assert state.size == empty


def test_the_list_is_what_has_been_shown() -> None:
    """After every commit it has the waits that are neither resumed nor cancelled, newest first."""
    state = PAUSED_WORKFLOWS.begin(NOTHING)
    expected: dict[tuple[str, str], Any] = {}
    for story_commit in STORY:
        take(state, story_commit)
        for name, data in shown(story_commit.context, *story_commit.events):
            execution = data["executionId"]
            if name == "workflow.paused":
                expected[execution, data["pausedAt"]] = data
            elif node := data.get("resumedFrom") or data.get("pausedAt"):
                del expected[execution, node]
            else:
                expected = {key: entry for key, entry in expected.items() if key[0] != execution}
        entries = listed(state)["pausedWorkflows"]
        assert entries == sorted(
            expected.values(),
            key=lambda entry: (entry["pausedTime"], entry["executionId"], entry["pausedAt"]),
            reverse=True,
        )
    assert not expected


@pytest.mark.parametrize("place", range(len(STORY) + 1))
def test_a_list_that_begins_in_the_middle_is_the_same(place: int) -> None:
    """Entries from a snapshot and from the log are equal, field by field."""
    first = PAUSED_WORKFLOWS.begin(NOTHING)
    for story_commit in STORY[:place]:
        take(first, story_commit)
    second = PAUSED_WORKFLOWS.begin(snapshot(STORY[:place]))
    for story_commit in STORY[place:]:
        assert first.opening(0) == second.opening(0)
        take(first, story_commit)
        take(second, story_commit)
    assert first.opening(0) == second.opening(0)


def snapshot(commits: list[StoryCommit]) -> Snapshot:
    """Return the waits according to the log."""
    waits: dict[str, dict[str, WaitingStep]] = {each.execution_id: {} for each in (GOOD, BAD, LEFT)}
    for story_commit in commits:
        mine = waits[story_commit.context.execution_id]
        for event in story_commit.events:
            match event.data:
                case ev.StepWait(wait="signal") as data:
                    mine[data.node_id] = WaitingStep(
                        data.node_id, event.timestamp, data.reason, data.triggers, data.until
                    )
                case ev.StepDone() | ev.StepError():
                    mine.pop(event.data.node_id, None)
                case ev.Cancelled() | ev.Failed() | ev.Completed():
                    mine.clear()
                case _:
                    pass
    statuses = [
        ExecutionStatus(each, "paused", [*waits[each.execution_id].values()])
        for each in (GOOD, BAD, LEFT)
    ]
    return Snapshot(1, statuses, {}, frozenset())


def many(count: int, size: int = 0) -> Snapshot:
    """Return a snapshot of so many waits, each with variables of a size."""
    context = [Context(f"e{number}", "w", "W", {"x": "x" * size}) for number in range(count)]
    wait = [WaitingStep("n", f"2024-01-{day:05d}", "", [], None) for day in range(count)]
    statuses = [ExecutionStatus(c, "paused", [w]) for c, w in zip(context, wait, strict=True)]
    return Snapshot(1, statuses, {}, frozenset())


def test_a_long_list_shows_the_newest_and_says_how_many_there_are() -> None:
    """Evicted entries, oldest first, still count until they are resumed."""
    state = PAUSED_WORKFLOWS.begin(many(2 * MAX_LISTED + 5))
    found = listed(state)
    assert (len(found["pausedWorkflows"]), found["total"]) == (MAX_LISTED, 2 * MAX_LISTED + 5)
    assert found["pausedWorkflows"][0]["executionId"] == f"e{2 * MAX_LISTED + 4}"
    for number in range(5, MAX_LISTED + 6):
        take(state, StoryCommit(Context(f"e{number}", "w"), [story.done("n", 5, {}, "await")]))
    assert listed(state)["total"] == MAX_LISTED + 4
    take(state, StoryCommit(Context("e0", "w"), [story.done("n", 5, {}, "await")]))
    assert listed(state)["total"] == MAX_LISTED + 3


def test_a_list_of_large_variables_is_shorter() -> None:
    """It is sent to each client that comes, and kept for each tenant."""
    state = PAUSED_WORKFLOWS.begin(many(1000, 16_000))
    found = listed(state)
    assert 200 < len(found["pausedWorkflows"]) < 300
    assert found["total"] == 1000


def test_a_list_without_a_total_is_whole() -> None:
    """An older page knows no total."""
    assert listed(PAUSED_WORKFLOWS.begin(many(3))).keys() == {"pausedWorkflows"}
    assert listed(PAUSED_WORKFLOWS.begin(NOTHING)) == {"pausedWorkflows": []}


def test_commits_without_waits_are_not_decoded() -> None:
    """No commit that the dialect renders is skipped."""
    for story_commit in STORY:
        if shown(story_commit.context, *story_commit.events):
            assert PAUSED_WORKFLOWS.concerns(story_commit.context, story_commit.payload)
    assert not PAUSED_WORKFLOWS.concerns(GOOD, STORY[0].payload)


@given(text=st.text(), key=st.text(), step=st.sampled_from(["approve", "n" * 64]))
def test_no_text_breaks_out_of_its_field(text: str, key: str, step: str) -> None:
    """Any text: one block each, and the text unchanged."""
    context = Context("e", "w", text, {key: text})
    wait = story.waiting(step, 5, reason=text, triggers=[text])
    failed = story.broken(step, 6, text, "await", waited=True)
    (_, entry), (_, end) = shown(context, wait, failed)
    assert entry["workflowName"] == entry["reason"] == text
    assert (entry["variables"], entry["waitingFor"]) == ({key: text}, [text])
    assert end["reason"] == text
    state = PAUSED_WORKFLOWS.begin(NOTHING)
    take(state, StoryCommit(context, [wait]))
    (event,) = SseParser().feed(without_id(state.opening(0)))
    assert event.json() == {"pausedWorkflows": [entry]}
    assert isinstance(state.opening(0)[0], Block)


def test_variables_are_the_input_and_outputs_of_steps() -> None:
    """Fields of the input come first; a wait that is repeated shows the same."""
    outputs = {"parse": {"total": 12}, "poId": "an output"}
    wait = story.waiting("sign", 5, variables=outputs)
    ((_, entry),) = shown(GOOD, wait)
    assert entry["variables"] == {"parse": {"total": 12}, "poId": "po-1", "größe": 1.5}
    ((_, entry),) = shown(LEFT, wait)
    assert entry["variables"] == outputs
    ((_, entry),) = shown(Context("e", "w", "W", [1]), wait)
    assert entry["variables"] == {**outputs, "input": [1]}
    open_wait = ev.OpenWait("sign", at(5), variables=0)
    done = story.done(
        "pay",
        6,
        {},
        "await",
        still_waiting=[open_wait, ev.OpenWait("x", at(5))],
        variables=[outputs],
    )
    _, (_, again), (_, other) = shown(LEFT, done)
    assert (again["variables"], other["variables"]) == (outputs, {})
    waiting = WaitingStep("sign", at(5), "", (), None, outputs)
    state = PAUSED_WORKFLOWS.begin(
        NOTHING._replace(executions=[ExecutionStatus(LEFT, "paused", [waiting])])
    )
    assert [entry["variables"] for entry in listed(state)["pausedWorkflows"]] == [outputs]
