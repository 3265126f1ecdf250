"""The document of one step: its input as rendered, its attempts and its log lines."""

from typing import Any

import pytest

from tailrace_api.documents.run_document import step_document
from tailrace_api.documents.step_document import MAX_LINES, StepDetails, StepHistory, step_details
from tailrace_shared.execution import events as ev
from tailrace_shared.workflow.definition import Definition, Node

NOW = "2024-01-15T10:30:00.000Z"
LATER = "2024-01-15T10:30:01.000Z"


def definition(**parameters: Any) -> Definition:
    """Return a workflow whose second step takes some parameters."""
    first, second = Node("transform"), Node("http", parameters=parameters, needs=["a"])
    each = Node(
        "map",
        parameters={"for_each": "input.xs", "do": {"type": "log", "with": {"message": "${item}"}}},
    )
    return Definition("w", {"a": first, "b": second, "m": each})


def begun(sensitive: list[str] | None = None) -> list[ev.Event]:
    """Return a run up to its first step, with a card that may be sensitive."""
    run_input = {"card": "4111-1111", "xs": ["x", "y"]}
    queued = ev.Queued("e", "w", "W", 1, run_input, "queued", sensitive=sensitive or [])
    return [
        ev.ExecutionQueued(queued, NOW),
        ev.ExecutionStarted(ev.Started("e", "running", NOW), NOW),
        ev.StepStarted(ev.StepBegun("a", "transform", "running", 1, NOW), NOW),
        ev.StepCompleted(
            ev.StepDone("a", "transform", "success", 1, NOW, NOW, 0, {"total": 3}), NOW
        ),
    ]


def start(node: str, attempt: int = 1) -> ev.Event:
    """Return the event: an attempt begins."""
    return ev.StepStarted(ev.StepBegun(node, "http", "running", attempt, NOW), NOW)


def shown(workflow: Definition, step_id: str, *events: ev.Event) -> StepDetails:
    """Return the document of a step."""
    history = StepHistory(step_id)
    for event in events:
        history.take([event], "worker-1")
    step = step_document(step_id, workflow, history.state)
    return step_details(step, history, workflow.all_nodes)


def test_the_input_is_rendered_as_it_was_when_the_attempt_began() -> None:
    """Secrets are masked, also within a text."""
    workflow = definition(
        url="https://example.org/${input.card}",
        json="${nodes.a.output}",
        headers={"authorization": "Bearer ${secrets.api_key}"},
        later="${nodes.m.status}",
    )
    details = shown(workflow, "b", *begun(), start("b"), start("m"))
    assert details.input == {
        "url": "https://example.org/4111-1111",
        "json": {"total": 3},
        "headers": {"authorization": "Bearer ***"},
        "later": "pending",
    }
    assert (details.node_id, details.status) == ("b", "running")


def test_sensitive_values_are_masked_before_the_input_is_rendered() -> None:
    """An expression that computes with one may fail; then the reason is shown."""
    workflow = definition(json={"card": "${input.card}", "text": "card ${input.card}"})
    details = shown(workflow, "b", *begun(["/card"]), start("b"))
    assert details.input == {"json": {"card": "***", "text": "card ***"}}
    workflow = definition(json="${int(input.card)}")
    details = shown(workflow, "b", *begun(["/card"]), start("b"))
    assert details.input is None
    assert details.input_problem
    assert "4111" not in str(details)


def test_a_step_that_has_not_begun_has_no_input() -> None:
    """It is pending."""
    details = shown(definition(url="${input.card}"), "b", *begun())
    assert (details.status, details.input, details.attempts, details.lines) == (
        "pending",
        None,
        [],
        [],
    )


def test_an_item_of_a_map_has_its_item() -> None:
    """Of the place that its id says."""
    expanded = ev.StepExpansion("m", "map", "running", ["x", "y"])
    events = [*begun(), start("m"), ev.StepExpanded(expanded, NOW), start("m[1]")]
    assert shown(definition(), "m[1]", *events).input == {"message": "y"}


@pytest.mark.parametrize("cause", ["error", "crash", "handover"])
def test_attempts_say_how_they_ended(cause: Any) -> None:
    """Each with its worker."""
    again = ev.StepAgain("b", "http", "retrying", 1, cause, "flaky", LATER, "a body")
    error = ev.StepError("b", "http", "error", 2, NOW, LATER, 1000, "broken")
    events = [
        *begun(),
        start("b"),
        ev.StepRetrying(again, LATER),
        start("b", 2),
        ev.StepFailed(error, LATER),
    ]
    first, second = shown(definition(), "b", *events).attempts
    assert (first.attempt, first.ended_at, first.cause) == (1, LATER, cause)
    assert (first.error, first.error_detail, first.worker) == ("flaky", "a body", "worker-1")
    assert (second.attempt, second.cause, second.error) == (2, "error", "broken")


def test_the_newest_lines_are_shown() -> None:
    """With their sensitive fields masked."""
    lines = [
        ev.StepLogged(ev.StepLog("b", "http", "info", f"line {number}", {"n": number}), NOW)
        for number in range(MAX_LINES + 5)
    ]
    marked = ev.StepLog("b", "http", "info", "last", {"card": "4111"}, sensitive=["/card"])
    events = [*begun(), start("b"), *lines, ev.StepLogged(marked, NOW)]
    shown_lines = shown(definition(), "b", *events).lines
    assert len(shown_lines) == MAX_LINES
    assert shown_lines[0].message == "line 6"
    assert shown_lines[-1].fields == {"card": "***"}
