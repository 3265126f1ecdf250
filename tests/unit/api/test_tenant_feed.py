"""The dialect of a tenant's feed: stages, progress and findings."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.generators import dialect_story as story
from harness.generators.dialect_story import GOOD, StoryCommit, at
from harness.sse.client import SseParser
from tailrace_api.dialects.context import Context
from tailrace_api.dialects.encoding import encode_commit, without_id
from tailrace_api.dialects.tenant_feed import TENANT_FEED
from tailrace_shared.execution import events as ev
from tailrace_shared.subjects import LogFilter

SECOND_5 = 1_705_314_605_250
IDS = {"poId": "po-1", "workflowId": "purchase-order", "executionId": GOOD.execution_id}


def shown(context: Context, *events: ev.Event) -> list[dict[str, Any]]:
    """Return what is shown of a commit; each is named as its type says."""
    story_commit = StoryCommit(context, [*events])
    wire = encode_commit(TENANT_FEED, "1", context, 1, story_commit.payload).frames
    parsed = SseParser().feed(wire)
    data = [event.json() for event in parsed]
    assert [event.type for event in parsed] == [each["type"] for each in data]
    return data


def test_a_connection_is_greeted_with_whose_it_is() -> None:
    """A plain message, as the page listens for it."""
    greeting = TENANT_FEED.greet(LogFilter("merchant-7"), 1_705_314_605_250)
    (event,) = SseParser().feed(without_id([greeting]))
    assert event.type == "message"
    assert event.json() == {
        "type": "connected",
        "merchantId": "merchant-7",
        "timestamp": 1_705_314_605_250,
    }


def test_a_heartbeat_carries_its_time() -> None:
    """The time is in a comment."""
    parser = SseParser()
    assert parser.feed(TENANT_FEED.heartbeat(17, "e-1-0")) == []
    assert parser.comments == ["heartbeat 17"]


def test_a_stage_begins_and_is_completed_with_what_it_found() -> None:
    """The end of a stage has two blocks."""
    begun = story.begun("parse", 5, name="Parse", stage="ai_parsing")
    output = {"lineItems": [{}, {}], "confidence": 0.93, "more": "of it"}
    done = story.done("parse", 5, output, stage="ai_parsing")
    stage = {
        "type": "stage",
        "stage": "ai_parsing",
        **IDS,
        "nodeId": "parse",
        "attempt": 1,
        "timestamp": SECOND_5,
    }
    assert shown(GOOD, begun, done) == [
        {**stage, "status": "started", "message": "ai_parsing started"},
        {**stage, "status": "completed", "message": "ai_parsing completed"},
        {
            "type": "completion",
            "stage": "ai_parsing",
            **IDS,
            "lineItems": 2,
            "confidence": 0.93,
            "nodeId": "parse",
            "duration_ms": 1000,
            "timestamp": SECOND_5,
        },
    ]


def test_another_attempt_is_said_to_be_one() -> None:
    """The stage has started again."""
    (stage,) = shown(GOOD, story.begun("parse", 5, stage="ai_parsing", attempt=2))
    assert (stage["message"], stage["attempt"]) == ("ai_parsing started (attempt 2)", 2)


@pytest.mark.parametrize(
    ("output", "found"),
    [
        ({"lineItems": 4}, {"lineItems": 4}),
        ({"line_items": [1]}, {"lineItems": 1}),
        ({"lineItems": [], "line_items": [1]}, {"lineItems": 0}),
        ({"confidence": 1}, {"confidence": 1}),
        ({"lineItems": "***", "confidence": "***"}, {}),
        ({"lineItems": True, "confidence": {"high": 1}}, {}),
        ({"lineItems": None}, {}),
        ([{"lineItems": 3}], {}),
        ("lineItems", {}),
        (None, {}),
    ],
)
def test_a_completion_shows_findings_from_the_output(output: Any, found: dict[str, Any]) -> None:
    """They are numbers and lengths of lists; a page cannot draw other values."""
    _, completion = shown(GOOD, story.done("parse", 5, output, stage="ai_parsing"))
    assert {key: completion[key] for key in ("lineItems", "confidence") if key in completion} == (
        found
    )


def test_only_a_node_with_a_stage_is_one() -> None:
    """Once for a map, whose items are of its stage; never for what a rerun has kept."""
    kept = story.done("parse", 5, {}, stage="ai_parsing", kept_from="e0")
    item = [
        story.begun("each[3]", 5, stage="pages"),
        story.done("each[3]", 5, {}, stage="pages"),
    ]
    plain = [story.begun("save", 5), story.done("save", 5, {})]
    assert shown(GOOD, kept, *item, *plain) == []


def test_progress_is_that_of_the_order() -> None:
    """The remaining time is that of the run or, without an estimate, of the step."""
    report = ev.StepProgress("parse", "po.parse", 50.0, "line 3", {}, "ai_parsing", 12.5, 30_000)
    assert shown(GOOD, ev.StepProgressed(report, at(5))) == [
        {
            "type": "progress",
            "stage": "ai_parsing",
            **IDS,
            "progress": 12.5,
            "message": "line 3",
            "eta_ms": 30_000,
            "nodeId": "parse",
            "timestamp": SECOND_5,
        }
    ]
    (bare,) = shown(GOOD, ev.StepProgressed(ev.StepProgress("parse", "po.parse", 50.0), at(5)))
    assert (bare["progress"], bare["message"], bare["eta_ms"]) == (50.0, "parse", None)
    assert "stage" not in bare


def test_an_order_begins_at_nothing_and_ends_at_a_hundred() -> None:
    """So a bar has both its ends."""
    end = ev.ExecutionCompleted(ev.Completed(GOOD.execution_id, "completed", 9), at(5))
    first, last = shown(GOOD, story.started(GOOD, 5, 42_000), end)
    assert (first["type"], first["progress"], first["eta_ms"]) == ("progress", 0, 42_000)
    assert (last["type"], last["progress"], last["eta_ms"]) == ("progress", 100, 0)


def test_an_error_is_of_the_stage_or_of_the_node() -> None:
    """The execution that fails for it does not repeat it."""
    staged = story.broken("parse", 5, "no file", "po.parse", stage="ai_parsing")
    plain = story.broken("save", 5, "disk full", "http")
    because = ev.Failed(GOOD.execution_id, "failed", 1, "parse: no file", "parse")
    errors = shown(GOOD, staged, plain, ev.ExecutionFailed(because, at(5)))
    assert errors == [
        {
            "type": "error",
            "stage": "ai_parsing",
            **IDS,
            "error": "no file",
            "nodeId": "parse",
            "timestamp": SECOND_5,
        },
        {
            "type": "error",
            "stage": "save",
            **IDS,
            "error": "disk full",
            "nodeId": "save",
            "timestamp": SECOND_5,
        },
    ]


@pytest.mark.parametrize(
    ("end", "error"),
    [
        (
            ev.ExecutionFailed(ev.Failed("e", "failed", 1, "output: no key"), at(5)),
            "output: no key",
        ),
        (ev.ExecutionCancelled(ev.Cancelled("e", "cancelled", 1, "enough"), at(5)), "enough"),
        (ev.ExecutionCancelled(ev.Cancelled("e", "cancelled", 1), at(5)), "cancelled"),
    ],
)
def test_what_ends_for_itself_is_an_error_of_the_workflow(end: ev.Event, error: str) -> None:
    """No step has shown it."""
    (data,) = shown(GOOD, end)
    assert (data["type"], data["stage"], data["error"]) == ("error", "workflow", error)


@pytest.mark.parametrize(
    ("run_input", "order"),
    [
        ({"poId": "a", "po_id": "b"}, "a"),
        ({"po_id": "b"}, "b"),
        ({"purchaseOrderId": "c"}, "c"),
        ({"purchase_order_id": 12}, "12"),
        ({"po_number": "PO-3"}, "PO-3"),
        ({"poId": "", "po_id": True}, "e"),
        ({"poId": {"x": 1}}, "e"),
        ({"poId": "***"}, "e"),
        (["poId"], "e"),
        (None, "e"),
    ],
)
def test_the_name_of_an_order_comes_from_its_input(run_input: Any, order: str) -> None:
    """Without a name there, the execution id is used."""
    context = Context("e", "w", "W", run_input)
    (data,) = shown(context, story.started(context, 5))
    assert data["poId"] == order


@pytest.mark.parametrize("story_commit", story.STORY)
def test_every_event_has_two_slots(story_commit: StoryCommit) -> None:
    """All replicas therefore assign equal ids."""
    commit = encode_commit(TENANT_FEED, "1", story_commit.context, 1, story_commit.payload)
    assert commit.last_index == 2 * len(story_commit.events) - 1


@given(text=st.text(), number=st.integers(-(2**53), 2**53))
def test_no_text_breaks_out_of_its_field(text: str, number: int) -> None:
    """Any text: one block each, and the text unchanged."""
    context = Context("e", "w", text, {"poId": text})
    report = ev.StepProgress("n", "t", 1.0, text, {text: text}, text)
    events = [
        story.begun("n", 5, name=text, stage=text),
        ev.StepProgressed(report, at(5)),
        story.done("n", 5, {"lineItems": number, text: text}, stage=text),
        story.broken("n", 5, text, "t", stage=text),
    ]
    stage, progress, _completed, completion, error = shown(context, *events)
    assert stage["poId"] == (text or "e")
    assert stage["stage"] == completion["stage"] == text
    assert progress["message"] == (text or "n")
    assert error["error"] == text
    assert completion.get("lineItems", number) == number
