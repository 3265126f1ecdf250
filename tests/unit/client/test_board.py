"""The drawing of a run in a terminal."""

import io
from collections import Counter
from typing import Any

import pytest
from rich.console import Console

from tailrace.stream import Event
from tailrace.view.board import hint_text, seconds_text
from tailrace.view.follow import draw
from tailrace.view.layout import FoldedRow, MoreRow, StepRow, rows
from tailrace.view.lines import event_line, summary
from tailrace.view.model import Run

NOW = 10.0


def layered(*widths: int) -> Run:
    """Return a run whose layers have so many nodes each."""
    layers = [
        [f"n{depth}_{number}" for number in range(width)] for depth, width in enumerate(widths)
    ]
    run = Run("e1", workflow="flow", status="running", queued_at=0.0, layers=layers)
    for layer in layers:
        for node in layer:
            run.step(node)
    return run


def settle(run: Run, layer: int, status: str = "success") -> None:
    """Give every step of a layer a status."""
    for node in run.layers[layer]:
        run.steps[node].status = status


def drawn(
    run: Run, height: int | None = None, width: int = 80, encoding: str = "utf-8"
) -> list[str]:
    """Return the lines of a drawing."""
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=file, width=width, height=height, force_terminal=False)
    with console.capture() as captured:
        console.print(draw(run, console, NOW, height))
    return captured.get().splitlines()


def test_a_run_that_fits_shows_every_step() -> None:
    """No folding without need."""
    run = layered(1, 3, 1)

    assert [type(row) for row in rows(run, 5)] == [StepRow] * 5
    assert rows(run) == rows(run, 5)


def test_idle_layers_fold() -> None:
    """Active and failed steps keep their lines; the rest of the layer is counted."""
    run = layered(1, 10, 10, 1)
    settle(run, 0)
    settle(run, 1)
    run.steps["n2_3"].status = "running"
    run.steps["n2_5"].status = "error"

    assert rows(run, 10) == [
        StepRow(1, run.steps["n0_0"]),
        FoldedRow(2, Counter(success=10)),
        StepRow(3, run.steps["n2_3"]),
        StepRow(3, run.steps["n2_5"]),
        FoldedRow(3, Counter(pending=8)),
        StepRow(4, run.steps["n3_0"]),
    ]


@pytest.mark.parametrize("active", [0, 1, 20, 58, 59])
def test_a_window_moves_along_with_the_first_active_step(active: int) -> None:
    """It never has more lines than fit, and always the active one."""
    run = layered(*[1] * 60)
    for layer in range(active):
        settle(run, layer)
    run.steps[f"n{active}_0"].status = "running"

    shown = rows(run, 20)

    assert len(shown) <= 20
    assert any(isinstance(row, StepRow) and row.step.status == "running" for row in shown)
    hidden = sum(row.lines for row in shown if isinstance(row, MoreRow))
    assert hidden + sum(isinstance(row, StepRow) for row in shown) == 60


@pytest.mark.parametrize("size", [(80, 24), (40, 10), (200, 60)])
def test_a_drawing_fits_the_terminal(size: tuple[int, int]) -> None:
    """Long names, long errors and many nodes do not make it wider or higher."""
    width, height = size
    run = layered(1, 40, 12, 1)
    settle(run, 0)
    for node in run.layers[1][:30]:
        step = run.steps[node]
        step.status, step.started_at, step.name = "running", 1.0, node * 30
        step.percent, step.message = 40.0, "reading " * 30
    run.steps["n1_35"].status = "error"
    run.steps["n1_35"].error = "it went wrong " * 20

    lines = drawn(run, height, width)

    assert len(lines) <= height
    assert max(map(len, lines)) <= width


def test_a_step_line_says_what_the_step_does() -> None:
    """Glyph, name, progress and message; attempt and cause of a retry; what a step waits for."""
    run = layered(1, 3)
    first, second, third, fourth = run.steps.values()
    first.status, first.duration = "success", 2.25
    second.status, second.started_at, second.percent, second.message = "running", 4.0, 62.0, "page"
    third.status, third.attempt, third.error, third.due = "retrying", 2, "boom", 12.5
    fourth.needs = ["n0_0"]

    done, running, retrying, pending = drawn(run)[2:]

    assert done.split() == ["1", "✓", "n0_0", "2.2", "s"]
    assert "62% page" in running
    assert running.endswith("6.0 s")
    assert "attempt 3 in 2.5 s: boom" in retrying
    assert "after n0_0" in pending


def test_a_waiting_step_shows_its_signal() -> None:
    """The signal and the timeout are shown, and the command that decides."""
    run = layered(1, 3)
    first, second, third, fourth = run.steps.values()
    first.status, first.count = "success", 40
    second.status, second.wait, second.waits_for, second.due = "waiting", "signal", "approval", 70.0
    third.status, third.wait, third.waits_for = "waiting", "child", "invoice e2"
    fourth.status, fourth.percent, fourth.message = "running", 30.0, "12/40"
    run.status = "paused"

    _head, _overall, hint, mapped, asking, child, mapping = drawn(run, width=100)

    assert hint.strip() == "decide with: tailrace resume e1 --approve (or --reject)"
    assert "40 items" in mapped
    assert "for approval, times out in 1:00" in asking
    assert "for invoice e2" in child
    assert "30% 12/40" in mapping


def test_a_run_that_needs_a_user_shows_the_command() -> None:
    """The command names the step; an ended run shows none."""
    run = layered(2)
    for step in run.steps.values():
        step.status, step.wait = "waiting", "signal"
    assert hint_text(run).startswith("decide with: tailrace resume e1 --node n0_0 --approve")
    run.is_held = True
    assert hint_text(run) == "paused; continue with: tailrace resume e1"
    run.is_held, run.status = False, "cancelled"
    assert hint_text(run) == ""


def test_a_hint_takes_a_line_of_the_terminal() -> None:
    """The drawing still fits the terminal."""
    run = layered(*[1] * 60)
    run.steps["n30_0"].status, run.steps["n30_0"].wait = "waiting", "signal"

    assert len(drawn(run, height=20)) <= 20


def test_the_head_summarises_the_run() -> None:
    """Workflow, status and time; share, counts and remaining time."""
    run = layered(1, 3)
    settle(run, 0)
    run.steps["n0_0"].duration = 2.0

    head, overall, *_ = drawn(run)

    assert head.split() == ["flow", "e1", "running", "10.0", "s"]
    assert "25% · 1/4 · about 2.0 s left" in overall


def test_a_terminal_without_unicode_gets_ascii() -> None:
    """Other characters would raise an encoding error."""
    run = layered(1, 2)
    settle(run, 0)

    assert drawn(run, encoding="ascii")[2].split()[1] == "+"


def test_what_a_node_writes_cannot_move_the_cursor() -> None:
    """Messages are untrusted; an escape sequence would redraw the terminal."""
    run = layered(1)
    step = run.steps["n0_0"]
    step.status, step.error, step.name = "error", "a\x1b[2Jb\nc", "evil\x1b]0;title\x07"

    text = "\n".join(drawn(run))

    assert "\x1b[2J" not in text
    assert "\x07" not in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.42, "420 ms"),
        (3.14, "3.1 s"),
        (59.96, "1:00"),
        (83, "1:23"),
        (3723, "1:02:03"),
    ],
)
def test_times_are_as_short_as_they_stay_readable(seconds: float, text: str) -> None:
    """Longer durations have fewer decimals."""
    assert seconds_text(seconds) == text


@pytest.mark.parametrize(
    ("kind", "data", "text"),
    [
        ("step:started", {"node_id": "a"}, "step:started        a"),
        ("step:started", {"node_id": "a", "attempt": 2}, "step:started        a attempt 2"),
        ("step:completed", {"node_id": "a", "duration_ms": 420}, "step:completed      a (420 ms)"),
        (
            "step:completed",
            {"node_id": "a", "kept_from": "e0"},
            "step:completed      a kept from e0",
        ),
        ("step:failed", {"node_id": "a", "error": "x\ny"}, "step:failed         a x y"),
        ("step:progress", {"node_id": "a", "percent": 5.0}, "step:progress       a 5%"),
        ("execution:failed", {"error_message": "no"}, "execution:failed    no"),
        ("execution:started", {}, "execution:started"),
        ("step:waiting", {"node_id": "a", "until": "T1"}, "step:waiting        a until T1"),
        (
            "step:waiting",
            {"node_id": "a", "wait": "signal", "reason": "approval", "triggers": ["b.c"]},
            "step:waiting        a for approval or b.c",
        ),
        (
            "step:waiting",
            {
                "node_id": "a",
                "wait": "child",
                "child_workflow_id": "w",
                "child_execution_id": "e2",
            },
            "step:waiting        a for w e2",
        ),
        ("step:waiting", {"node_id": "a", "wait": "actor"}, "step:waiting        a for an actor"),
        (
            "step:skipped",
            {"node_id": "a", "reason": "when"},
            "step:skipped        a its `when` is false",
        ),
        ("step:expanded", {"node_id": "a", "items": [1, 2]}, "step:expanded       a 2 items"),
        ("execution:paused", {"reason": "approval"}, "execution:paused    approval"),
        ("execution:resumed", {"resumed_from": "a"}, "execution:resumed   from a"),
        ("execution:resumed", {}, "execution:resumed"),
        (
            "command:requested",
            {"command": "resolve", "node_id": "a", "decision": "approved", "actor": "Ada"},
            "command:requested   a resolve approved by Ada",
        ),
    ],
)
def test_an_event_is_one_line_of_text(kind: str, data: dict[str, Any], text: str) -> None:
    """For logs and pipes: time, type, node and details."""
    assert event_line(Event("e-1-0", kind, data, "T")) == f"T {text}"


def test_a_run_ends_with_its_summary() -> None:
    """Status, time and counts; the error of one that failed."""
    run = layered(1, 2)
    settle(run, 0)
    settle(run, 1, "error")
    run.status, run.finished_at, run.error = "failed", 3.0, "n1_0: boom"

    assert summary(run, 99) == "failed in 3.0 s: 1 done, 2 failed\nn1_0: boom\nexecution e1"
