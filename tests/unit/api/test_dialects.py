"""The output of each dialect equals its golden file, byte for byte.

``TAILRACE_RECORD=1`` writes the files anew, to be read before they are committed.
"""

import os
from pathlib import Path

import msgspec
import pytest

from harness.generators import hand_written_log as log
from harness.generators.hand_written_log import NOW
from harness.sse.client import SseParser
from tailrace_api.dialects.context import Context
from tailrace_api.dialects.dialect import Dialect
from tailrace_api.dialects.encoding import encode_commit, reset, without_id
from tailrace_api.dialects.execution import EXECUTION
from tailrace_api.dialects.run_and_stream import RUN_AND_STREAM
from tailrace_api.sse.chunk import chunk
from tailrace_shared.execution import events as ev
from tailrace_shared.execution.commits import encode_commits
from tailrace_shared.position import StreamPosition
from tailrace_shared.subjects import LogFilter

GOLDEN = Path(__file__).parents[2] / "golden"
EPOCH, RUN = "18f2e6a1b00", "0190a1b2-run"

COMMITS: list[list[ev.Event]] = [
    [log.queued(RUN, "purchase-order", 7, {"file": "po.csv", "größe": 1.5})],
    [
        log.started(RUN),
        ev.StepStarted(
            ev.StepBegun("parse", "po.parse", "running", 1, NOW, "Parse", "ai_parsing"), NOW
        ),
    ],
    [
        log.step_progress("parse", 40.0),
        ev.StepLogged(ev.StepLog("parse", "po.parse", "info", "a\nb"), NOW),
        ev.StepRetrying(
            ev.StepAgain("parse", "po.parse", "retrying", 1, "error", "flaky", NOW), NOW
        ),
        log.step_started("parse", "po.parse", attempt=2),
    ],
    [
        log.step_completed("parse", {"total": 12, "lines": ["a\r\nb"]}, "po.parse"),
        ev.StepSkipped(ev.StepSkip("approve", "transform", "skipped", "when"), NOW),
        ev.StepStarted(ev.StepBegun("ship", "delay", "running", 1, NOW), NOW),
        ev.StepWaiting(ev.StepWait("ship", "delay", "waiting", NOW), NOW),
    ],
    [
        ev.StepProgressed(
            ev.StepProgress(
                "scan", "ocr", 50.0, "page 2", {"page": 2}, progress=12.5, eta_ms=900, name="Scan"
            ),
            NOW,
        ),
        ev.StepWaiting(
            ev.StepWait("approve", "await", "waiting", wait="signal", attempt=1, reason="approval"),
            NOW,
        ),
        ev.ExecutionPaused(ev.Paused(RUN, "paused", "approval", waiting=["approve"]), NOW),
        ev.ExecutionResumed(ev.Resumed(RUN, "running", "approve"), NOW),
    ],
    [ev.CommandRequested(ev.Command(RUN, "cancel", "c1", "enough"), NOW)],
    [
        ev.StepFailed(
            ev.StepError("mail", "http", "error", 3, NOW, NOW, 250, "connection refused"), NOW
        )
    ],
]
ENDS: dict[str, ev.Event] = {
    "completed": log.completed(RUN, {"ship": {}}),
    "omitted": ev.ExecutionCompleted(
        ev.Completed(RUN, "completed", 60000, output_omitted=True), NOW
    ),
    "cancelled": ev.ExecutionCancelled(
        ev.Cancelled(
            RUN,
            "cancelled",
            60000,
            "enough",
            open_steps=[ev.OpenStep("ship", "delay", 1, "Ship", NOW), ev.OpenStep("a", "await", 0)],
        ),
        NOW,
    ),
    "failed": ev.ExecutionFailed(ev.Failed(RUN, "failed", 60000, "refused", "mail"), NOW),
}


def _wire(dialect: Dialect, commits: list[list[ev.Event]]) -> bytes:
    encoded = [
        encode_commit(dialect, EPOCH, Context(RUN), 41 + number, next(encode_commits(commit)))
        for number, commit in enumerate(commits)
    ]
    greeting = dialect.greet(LogFilter("t", RUN), 0)
    return without_id([greeting] if greeting else []) + b"".join(
        commit.frames for commit in encoded
    )


@pytest.mark.parametrize("dialect", [EXECUTION, RUN_AND_STREAM], ids=lambda dialect: dialect.name)
def test_a_run_equals_its_golden_file(dialect: Dialect) -> None:
    """Every event of the log, and every end, in this dialect."""
    wire = _wire(dialect, [*COMMITS, *([end] for end in ENDS.values())])
    file = GOLDEN / f"{dialect.name}.sse"
    if os.environ.get("TAILRACE_RECORD"):
        file.write_bytes(wire)
    assert wire.decode() == file.read_text()


def test_the_execution_stream_carries_the_stored_slices() -> None:
    """The data of a block is the stored event, byte for byte, under the event's own name."""
    parser = SseParser()
    streamed = parser.feed(_wire(EXECUTION, COMMITS))[1:]
    stored = [(event, msgspec.json.encode(event).decode()) for c in COMMITS for event in c]
    assert [event.data for event in streamed] == [slice_ for _, slice_ in stored]
    assert [event.type for event in streamed] == [
        type(event).__struct_config__.tag for event, _ in stored
    ]


@pytest.mark.parametrize("dialect", [EXECUTION, RUN_AND_STREAM], ids=lambda dialect: dialect.name)
@pytest.mark.parametrize("end", list(ENDS))
def test_every_terminal_event_ends_the_stream(dialect: Dialect, end: str) -> None:
    """A commit with a terminal event is the last one of a stream."""
    payload = next(encode_commits([log.step_completed("a"), ENDS[end]]))
    assert encode_commit(dialect, EPOCH, Context(RUN), 1, payload).is_last
    assert not encode_commit(dialect, EPOCH, Context(RUN), 1, b"[]").is_last


def test_a_commit_can_be_read_from_the_middle() -> None:
    """A client that was disconnected inside a commit gets the rest of it."""
    payload = next(encode_commits([log.step_completed("a"), log.step_log("b", "x")]))
    commit = encode_commit(RUN_AND_STREAM, EPOCH, Context(RUN), 5, payload)
    assert commit.since(0) == commit.chunk == chunk(commit.frames)
    assert commit.since(1) == b""
    assert (commit.shown(0), commit.shown(1)) == (1, 0)
    assert commit.last_shown(0) == 0
    assert commit.last_shown(1) is None


def test_a_reset_contains_its_reason_and_restart() -> None:
    """The reset block carries the reason and the position that comes instead."""
    (event,) = SseParser().feed(without_id([reset("expired", StreamPosition(EPOCH, 3, 0))]))
    assert event.type == "stream:reset"
    assert event.json() == {"reason": "expired", "from": f"{EPOCH}-3-0"}
    (event,) = SseParser().feed(without_id([reset("unknown", None)]))
    assert event.json() == {"reason": "unknown", "from": None}
