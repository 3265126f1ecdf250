"""Pipeline status: each change of a status once, in the format of the front ends."""

from pathlib import Path

import msgspec
import pytest

from harness.generators import hand_written_log as log
from harness.sse.client import SseParser
from tailrace_api.dialects.block import Block
from tailrace_api.dialects.context import Context
from tailrace_api.dialects.dialect import CumulativeState, LoggedEvent
from tailrace_api.dialects.encoding import encode_commit, without_id
from tailrace_api.dialects.pipeline_status import Pipelines, RunCounts
from tailrace_api.dialects.snapshot import EarlierStatus, Ended, ExecutionStatus, Snapshot
from tailrace_shared.execution import events as ev
from tailrace_shared.execution.commits import encode_commits

GOLDEN = Path(__file__).parents[2] / "golden"
EPOCH, NOW = "18f2e6a1b00", 1705314600000
NOTHING = Snapshot(0, (), {}, frozenset({"a", "b"}))

QUEUED = log.queued("e")
STARTED = log.started("e")
PAUSED = ev.ExecutionPaused(ev.Paused("e", "paused", "approval"), log.NOW)
RESUMED = ev.ExecutionResumed(ev.Resumed("e", "running"), log.NOW)
COMPLETED = log.completed("e")
FAILED = ev.ExecutionFailed(ev.Failed("e", "failed", 1, "no"), log.NOW)
CANCELLED = ev.ExecutionCancelled(ev.Cancelled("e", "cancelled", 1), log.NOW)


def run_counts(snapshot: Snapshot = NOTHING) -> RunCounts:
    """Return the run counts of two pipelines."""
    return RunCounts({"a", "b"}, snapshot)


def take(state: RunCounts, execution: str, *events: ev.Event, workflow: str = "a") -> list[Block]:
    """Apply events to run counts; return the updates."""
    blocks: list[Block | None] = []
    for event in events:
        stored = msgspec.Raw(msgspec.json.encode(event))
        opened = msgspec.json.decode(stored, type=LoggedEvent)
        blocks += state.show(Context(execution, workflow), opened, stored)
    return [block for block in blocks if block is not None]


def said(blocks: list[Block]) -> list[tuple[str, str | None]]:
    """Return the statuses and the previous ones of updates."""
    updates = [msgspec.json.decode(block.data) for block in blocks]
    return [(update["status"], update.get("previousStatus")) for update in updates]


def test_a_stream_has_the_documented_bytes() -> None:
    """It contains a batch, an error, changes and a heartbeat."""
    dialect = Pipelines(frozenset({"purchase-order", "nobody", "report"}))
    snapshot = Snapshot(
        40,
        [ExecutionStatus(Context("r", "report"), "paused")],
        {"purchase-order": Ended("p", "failed", log.NOW)},
        frozenset({"purchase-order", "report"}),
    )
    state = dialect.begin(snapshot)
    assert isinstance(state, CumulativeState)
    wire = without_id(state.opening(NOW))
    commits: list[list[ev.Event]] = [
        [QUEUED],
        [STARTED, log.step_started("n")],
        [PAUSED],
        [RESUMED, COMPLETED],
    ]
    for sequence, events in enumerate(commits, 41):
        payload = next(encode_commits(events))
        context = Context("e", "purchase-order")
        wire += encode_commit(dialect, EPOCH, context, sequence, payload, state.show).frames
    wire += dialect.heartbeat(NOW + 30_000, f"{EPOCH}-44-1")
    assert wire.decode() == (GOLDEN / "pipeline_status.sse").read_text()
    names = [event.type for event in SseParser().feed(wire)]
    assert names[:2] == ["batch_update", "error"]


def test_only_changes_are_shown_with_the_previous_status() -> None:
    """A second run of an active pipeline changes nothing; its end leaves the first one."""
    state = run_counts()
    assert said(take(state, "1", QUEUED)) == [("active", "idle")]
    assert take(state, "1", STARTED) == []
    assert take(state, "2", QUEUED, STARTED) == []
    assert take(state, "2", FAILED) == []
    assert said(take(state, "1", PAUSED)) == [("paused", "active")]
    assert said(take(state, "1", RESUMED)) == [("active", "paused")]
    assert said(take(state, "1", COMPLETED)) == [("completed", "active")]


@pytest.mark.parametrize(
    ("end", "status"), [(COMPLETED, "completed"), (FAILED, "failed"), (CANCELLED, "idle")]
)
def test_a_pipeline_without_live_runs_stands_as_the_last_one_ended(
    end: ev.Event, status: str
) -> None:
    """A cancelled run has no result, so its pipeline is idle."""
    state = run_counts()
    assert said(take(state, "1", QUEUED, STARTED, end))[-1] == (status, "active")
    assert state.status("a") == status
    assert state.status("b") == "idle"


def test_other_workflows_and_other_events_say_nothing() -> None:
    """They are not even opened."""
    dialect = Pipelines(frozenset({"a"}))
    assert take(run_counts(), "1", QUEUED, workflow="c") == []
    assert dialect.concerns(Context("e", "a"), next(encode_commits([QUEUED])))
    assert not dialect.concerns(Context("e", "c"), next(encode_commits([QUEUED])))
    assert not dialect.concerns(Context("e", "a"), next(encode_commits([log.step_started("n")])))


def test_an_id_that_names_nothing_counts_when_it_does() -> None:
    """It is an error at first, and nothing was before."""
    state = run_counts(Snapshot(0, (), {}, frozenset({"a"})))
    batch, error = state.opening(NOW)
    assert msgspec.json.decode(batch.data)["updates"] == [{"pipelineId": "a", "status": "idle"}]
    assert msgspec.json.decode(error.data)["pipelineId"] == "b"
    assert said(take(state, "1", QUEUED, workflow="b")) == [("active", None)]
    assert len(state.opening(NOW)) == 1


def test_rewound_run_counts_render_the_same_events_again() -> None:
    """Only a previous status that would need another read differs."""
    state = run_counts()
    take(state, "1", QUEUED, STARTED)
    take(state, "2", QUEUED, STARTED, COMPLETED, workflow="b")
    before = state.copy()
    changes: list[tuple[str, list[ev.Event], str]] = [
        ("1", [PAUSED], "a"),
        ("3", [QUEUED], "b"),
        ("3", [CANCELLED], "b"),
    ]
    shown = [said(take(state, run, *events, workflow=name)) for run, events, name in changes]
    again = state.copy()
    again.rewind({"1": EarlierStatus("a", "running"), "3": EarlierStatus("b", None)})
    assert (again.status("a"), again.status("b")) == ("active", None)
    replayed = [said(take(again, run, *events, workflow=name)) for run, events, name in changes]
    assert shown == [[("paused", "active")], [("active", "completed")], [("idle", "active")]]
    assert replayed == [[("paused", "active")], [("active", None)], [("idle", "active")]]
    assert before.status("a") == "active"
    assert (again.updates(), again.runs("a")) == (state.updates(), state.runs("a"))


def test_what_a_client_sees_is_urgent() -> None:
    """If the client does not name what it sees, everything is urgent."""
    named = frozenset({"a", "b"})
    assert Pipelines(named).is_urgent(Context("1", "b"))
    assert Pipelines(named, frozenset({"a"})).is_urgent(Context("1", "a"))
    assert not Pipelines(named, frozenset({"a"})).is_urgent(Context("1", "b"))
    assert Pipelines(named) == Pipelines(frozenset({"b", "a"}))
