"""Outcomes of what node functions raise: the message, and a detail that explains it."""

import msgspec
import pytest

from tailrace_shared.execution.events import StepAgain, StepError
from tailrace_shared.execution.state import ExecutionState, StepState
from tailrace_shared.workflow.definition import Node
from tailrace_worker.engine.decide.outcomes import end_event
from tailrace_worker.engine.decide.plan import PlannedNode
from tailrace_worker.engine.run.failures import MAX_DETAIL_CHARACTERS, erred
from tailrace_worker.nodes.node import NodeFailedError
from tailrace_worker.secrets.redactor import Redactor

NODE = Node("under.test")
PLANNED = PlannedNode("n", NODE, is_actor=False)


def raised(error):
    """Return an exception with a traceback."""
    with pytest.raises(type(error)) as caught:
        raise error
    return caught.value


def test_an_error_of_the_code_has_its_traceback():
    """It ends in the line that raised."""
    outcome = erred(raised(ValueError("bad")), PLANNED, None)
    assert outcome.message == "ValueError: bad"
    assert outcome.detail.startswith("Traceback (most recent call last):")
    assert "test_failures.py" in outcome.detail
    assert outcome.detail.endswith("raise error\nValueError: bad")


def test_a_node_may_give_a_detail_of_its_own():
    """For example the answer of a server; without one there is none."""
    assert erred(raised(NodeFailedError("m", detail="answer")), PLANNED, None).detail == "answer"
    assert not erred(raised(NodeFailedError("m")), PLANNED, None).detail


def test_the_detail_is_bounded_and_its_end_or_beginning_is_kept():
    """The end of a traceback, the beginning of a response."""
    outcome = erred(raised(ValueError("x" * 9000 + "end")), PLANNED, None)
    assert (len(outcome.detail), outcome.detail[-3:]) == (MAX_DETAIL_CHARACTERS, "end")
    outcome = erred(raised(NodeFailedError("m", detail="begin" + "x" * 9000)), PLANNED, None)
    assert (len(outcome.detail), outcome.detail[:5]) == (MAX_DETAIL_CHARACTERS, "begin")


@pytest.mark.parametrize("filler", ["", "x" * (MAX_DETAIL_CHARACTERS - 4)])
def test_the_detail_is_redacted_before_it_is_cut(filler):
    """Half of a secret would not be recognised."""
    redactor = Redactor(["hunter22"])
    for error in (ValueError(f"hunter22{filler}"), NodeFailedError("", detail=f"{filler}hunter22")):
        detail = erred(raised(error), PLANNED, redactor).detail
        assert "er22" not in detail


def test_the_detail_is_recorded_with_the_failure():
    """In the event and in the folded step."""
    step = StepState("n", "under.test", "running", attempt=1)
    end = end_event(step, erred(raised(ValueError("bad")), PLANNED, None), NODE, 0.0, 0.0)
    assert isinstance(end.data, StepError)
    assert "Traceback" in end.data.error_detail
    state = ExecutionState(status="running", steps={"n": step})
    state.apply(end)
    assert "Traceback" in state.steps["n"].error_detail


def test_events_without_a_detail_have_their_old_bytes():
    """Logs of earlier versions are read, and earlier versions read new logs."""
    event = StepAgain("n", "t", "retrying", 1, "error", "bad", "2024-01-01T00:00:00.000Z")
    assert msgspec.json.encode(event) == (
        b'{"node_id":"n","node_type":"t","status":"retrying","attempt":1,"cause":"error",'
        b'"error":"bad","retry_at":"2024-01-01T00:00:00.000Z"}'
    )
