"""``tailrace schedule`` and ``tailrace dead`` against a running system."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from harness.processes.tailrace_command import TailraceCommand
from harness.processes.tailrace_up import TailraceUp

FLOW = "id: ticking\nnodes: {a: {type: transform, with: {value: '${input}'}}}\n"


@pytest.fixture
def ticking(system: TailraceUp, tmp_path: Path) -> Iterator[TailraceCommand]:
    """The command, with a workflow to schedule; no schedule or dead letter is left behind."""
    tailrace = TailraceCommand(system.url, tmp_path)
    tailrace("apply", str(tailrace.write("ticking.yaml", FLOW)))
    yield tailrace
    for schedule in tailrace("schedule", "ls", "--json").json["schedules"]:
        tailrace("schedule", "rm", schedule["id"])
    tailrace("dead", "purge", "--yes")


def until(tailrace: TailraceCommand, count: int, *arguments: str) -> list[Any]:
    """Repeat a listing command until it has enough entries; return them."""
    deadline = time.monotonic() + 100
    while True:
        (listed,) = [
            found for found in tailrace(*arguments, "--json").json.values() if type(found) is list
        ]
        if len(listed) >= count:
            return listed
        assert time.monotonic() < deadline


def test_a_schedule_is_added_listed_and_removed(ticking: TailraceCommand) -> None:
    """It starts runs with its input while it is there."""
    ticking.write("input.json", '{"from": "a file"}')
    added = ticking(
        *("schedule", "add", "ticking", "--cron", "@every 1s"),
        *("--input", "@input.json", "--id", "tick", "--json"),
    )
    assert added.json["id"] == "tick"
    assert added.json["input"] == {"from": "a file"}
    assert until(ticking, 2, "ls", "ticking")
    line = ticking("schedule", "ls").stdout
    assert line.startswith("tick  ticking  @every 1s")
    assert ticking("schedule", "rm", "tick").code == 0
    assert ticking("schedule", "ls", "--json").json == {"schedules": [], "cursor": None}


def test_a_schedule_is_paused_resumed_run_and_backfilled(ticking: TailraceCommand) -> None:
    """Each command says what it did."""
    ticking("schedule", "add", "ticking", "--cron", "0 9 * * *", "--id", "daily")
    assert ticking("schedule", "pause", "daily").stdout == "daily  ticking  0 9 * * *  paused\n"
    assert "  next " in ticking("schedule", "resume", "daily").stdout
    started = ticking("schedule", "run", "daily", "--json").json
    assert ticking("watch", started["execution_id"]).code == 0
    shown = ticking("show", started["execution_id"], "--json").json
    assert shown["schedule"] == "daily"
    span = ("--from", "2026-03-01T00:00:00Z", "--to", "2026-03-03T00:00:00Z")
    listed = ticking("schedule", "backfill", "daily", *span, "--dry-run").stdout.splitlines()
    assert listed == ["2026-03-01T09:00:00.000Z", "2026-03-02T09:00:00.000Z"]
    done = ticking("schedule", "backfill", "daily", *span, "--json").json
    assert len({row["execution_id"] for row in done["firings"]}) == 2


def test_a_cron_line_shows_its_next_time(ticking: TailraceCommand) -> None:
    """A schedule without an id gets one."""
    line = ticking("schedule", "add", "ticking", "--cron", "0 9 * * MON-FRI").stdout
    assert re.fullmatch(
        r"[0-9a-f-]{36}  ticking  0 9 \* \* MON-FRI  next \S+T09:00:00.000Z\n", line
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("add", "ticking", "--cron", "* * * *"), "/cron: a cron expression has five fields"),
        (("add", "nothing", "--cron", "@hourly"), "/workflow_id: there is no workflow 'nothing'"),
        (
            ("add", "ticking", "--cron", "@hourly", "--time-zone", "Nowhere"),
            "NATS does not know this time zone",
        ),
        (("rm", "nothing"), "there is no schedule 'nothing'"),
    ],
)
def test_a_refused_schedule_is_one_line(
    ticking: TailraceCommand, arguments: tuple[str, ...], sentence: str
) -> None:
    """The API's message."""
    outcome = ticking("schedule", *arguments)
    assert (outcome.code, outcome.stdout) == (1, "")
    (line,) = outcome.stderr.splitlines()
    assert sentence in line


def test_a_dead_letter_is_listed_shown_replayed_and_purged(
    system: TailraceUp, ticking: TailraceCommand
) -> None:
    """The reason is in the list; after the repair a replay runs it."""
    ticking("schedule", "add", "ticking", "--cron", "@every 1s", "--id", "tick")
    httpx.delete(f"{system.url}/api/v1/workflows/ticking")
    until(ticking, 2, "dead", "ls")
    ticking("schedule", "rm", "tick")
    letters = until(ticking, 2, "dead", "ls", "--queue", "executions")
    line, *_ = ticking("dead", "ls").stdout.splitlines()
    assert line.startswith(f"{letters[0]['id']}  ")
    assert line.endswith(
        "start_scheduled  failed: WorkflowNotFoundError: there is no workflow 'ticking': "
        "apply its definition first"
    )
    shown = ticking("dead", "show", str(letters[0]["id"])).stdout
    assert "Traceback (most recent call last):" in shown
    assert (
        letters[0]["message_id"]
        == ticking("dead", "show", str(letters[0]["id"]), "--json").json["message_id"]
    )

    ticking("apply", "ticking.yaml")
    before = len(ticking("ls", "ticking", "--limit", "200", "--json").json["runs"])
    assert ticking("dead", "replay", str(letters[0]["id"])).stdout == "replayed 1\n"
    until(ticking, before + 1, "ls", "ticking", "--limit", "200")
    rest = until(ticking, 1, "dead", "ls")
    assert letters[0]["id"] not in [letter["id"] for letter in rest]
    replayed = ticking("dead", "replay", "--queue", "executions", "--json").json
    assert replayed == {"replayed": len(rest)}
    until(ticking, before + 1 + len(rest), "ls", "ticking", "--limit", "200")
    assert ticking("dead", "ls", "--json").json == {"dead_letters": [], "after": None}


def test_all_dead_letters_are_not_purged_by_mistake(ticking: TailraceCommand) -> None:
    """It requires --yes, IDs or a queue; IDs and a queue exclude each other."""
    for arguments in (("dead", "purge"), ("dead", "purge", "7", "--queue", "x")):
        outcome = ticking(*arguments)
        assert (outcome.code, outcome.stdout) == (2, "")
    assert ticking("dead", "purge", "--queue", "x", "--json").json == {"purged": 0}
    assert ticking("dead", "purge", "--yes").stdout == "purged 0\n"
    missing = ticking("dead", "purge", "999999")
    assert (missing.code, missing.stderr) == (1, "tailrace: there is no dead letter 999999\n")
    assert json.loads(ticking("dead", "replay", "--json").stdout) == {"replayed": 0}
