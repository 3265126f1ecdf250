"""Commands of every day: logs, steps, workflows, statistics, and a new project."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import Mock
from urllib.parse import parse_qsl, urlsplit

import click
import msgspec
import pytest
from click.testing import CliRunner, Result

from harness.http.scripted_server import ScriptedServer
from tailrace.cli import cli

STAMP = "2026-01-01T00:00:00.000Z"
SUMMARY: dict[str, Any] = {
    "workflow_id": "flow",
    "status": "failed",
    "created_at": STAMP,
    "finished_at": STAMP,
}
STEP: dict[str, Any] = {
    "node_id": "each[1]",
    "node_type": "my.step",
    "status": "error",
    "attempt": 2,
    "output": None,
    "error_detail": "Traceback",
}
RUN: dict[str, Any] = {
    "execution_id": "e1",
    "status": "paused",
    "held": True,
    "steps": [{**STEP, "node_id": "each"}, STEP, {**STEP, "node_id": "other"}],
    "logs": [
        {"id": "1", "type": "execution:started", "data": {}, "timestamp": STAMP},
        {
            "id": "2",
            "type": "step:log",
            "data": {"node_id": "each[1]", "level": "info", "message": "one"},
            "timestamp": STAMP,
        },
        {
            "id": "3",
            "type": "step:log",
            "data": {"node_id": "other", "level": "info", "message": "two"},
            "timestamp": STAMP,
        },
    ],
}

SCHEDULE: dict[str, Any] = {
    "id": "nightly",
    "workflow_id": "flow",
    "cron": "@daily",
    "time_zone": "UTC",
    "input": {},
    "next_at": STAMP,
    "paused": False,
    "last_at": None,
    "last_execution_id": None,
}

BULK: dict[str, Any] = {
    "dry_run": True,
    "executions": [
        {
            "execution_id": "e1",
            "workflow_id": "flow",
            "status": "failed",
            "error": None,
            "rerun": None,
        }
    ],
    "more": False,
    "cursor": None,
}


@pytest.fixture
def tailrace(server: ScriptedServer) -> Callable[..., Result]:
    """Return a function that runs a command against a scripted API."""
    answers = {
        "GET /api/v1/executions/e1": RUN,
        "GET /api/v1/workflows/flow/stats": {
            "ended": {"completed": 3, "failed": 1},
            "last_hour": {"completed": 1, "failed": 0},
            "active_runs": 2,
            "run_latency": {"p50_ms": 1500.0, "p95_ms": None},
            "step_latency": {},
        },
        "GET /api/v1/workflows/flow": {},
        "GET /api/v1/workflows": {
            "workflows": [
                {"workflow_id": "flow", "version": 7, "name": "The flow"},
                {"workflow_id": "other", "version": 9, "name": "other"},
            ]
        },
        "DELETE /api/v1/workflows/flow": {},
        "GET /api/v1/workflows/flow/versions": {
            "versions": [
                {"version": 7, "name": "flow", "created_at": STAMP, "author": "ada"},
                {"version": 4, "name": "flow", "created_at": STAMP, "author": None},
            ],
            "cursor": None,
        },
        "POST /api/v1/workflows/flow/runs": {"execution_id": "e1", "status": "queued"},
        "POST /api/v1/executions/e1/resume": {"execution_id": "e1", "status": "running"},
        "POST /api/v1/executions/e1/rerun": {"execution_id": "e1", "status": "queued"},
        "POST /api/v1/executions/rerun": BULK,
        "POST /api/v1/executions/cancel": BULK,
        "POST /api/v1/schedules": {**SCHEDULE, "overlap": "skip"},
        "GET /api/v1/schedules": {
            "schedules": [
                {**SCHEDULE, "last_at": STAMP, "last_execution_id": "e1"},
                {**SCHEDULE, "last_at": STAMP, "overlap": "skip", "paused": True},
            ]
        },
        "GET /api/v1/executions": {
            "runs": [
                {**SUMMARY, "execution_id": "e1", "tags": ["eu", "big"]},
                {**SUMMARY, "execution_id": "f2", "tags": ["eu"]},
            ]
        },
    }

    def respond(line: str, _headers: dict[str, str], _body: bytes) -> bytes:
        path, _, query = line.removesuffix(" HTTP/1.1").partition("?")
        answer: Any = answers[path]
        if path.endswith("/workflows/flow"):
            # Version 4 had another name.
            name = {"name": "old"} if "version=4" in query else {}
            answer = {
                "version": 4 if name else 7,
                "definition": {"id": "flow", **name, "nodes": {}},
            }
        body = msgspec.json.encode(answer)
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)

    server.respond = respond

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(cli, arguments, env={"TAILRACE_URL": server.url})

    return run


def test_logs_prints_the_lines_of_nodes(tailrace: Callable[..., Result]):
    """Of all steps, or of one and its items; and all events on request."""
    assert tailrace("logs", "e1").stdout.splitlines() == [
        f"{STAMP} step:log            each[1] info: one",
        f"{STAMP} step:log            other info: two",
    ]
    assert tailrace("logs", "e1", "--node", "each").stdout.count("\n") == 1
    assert tailrace("logs", "e1", "--all").stdout.count("\n") == 3
    line = json.loads(tailrace("logs", "e1", "--node", "other", "--json").stdout)
    assert line["data"]["message"] == "two"
    for options in ((), ("--follow",)):
        wrong = tailrace("logs", "e1", "--node", "eech", *options)
        assert (wrong.exit_code, wrong.stdout) == (1, "")
        assert "no step 'eech', did you mean 'each'?" in wrong.stderr


def test_a_resume_without_a_decision_can_approve_nothing(
    tailrace: Callable[..., Result], server: ScriptedServer
):
    """Also if a colleague resumes the run first."""
    assert tailrace("resume", "e1").exit_code == 0
    assert json.loads(server.requests[-1][2]) == {"only_paused": True}
    assert tailrace("resume", "e1", "--reject").exit_code == 0
    assert json.loads(server.requests[-1][2]) == {"decision": "rejected"}


def test_show_prints_one_step(tailrace: Callable[..., Result]):
    """Its events and its error; a misspelt id is answered by the nearest one."""
    shown = tailrace("show", "e1", "each[1]").stdout
    assert "each[1] (my.step): error, attempt 2" in shown
    assert "info: one" in shown
    assert "Traceback" in shown
    wrong = tailrace("show", "e1", "eech")
    assert wrong.exit_code == 1
    assert "no step 'eech', did you mean 'each'?" in wrong.stderr


def test_runs_are_started_with_tags_and_listed_by_filters(
    tailrace: Callable[..., Result], server: ScriptedServer
):
    """A time is an age or a date with a time; steps that wait have no filters."""
    assert tailrace("run", "flow", "--tag", "eu", "--tag", "big").exit_code == 0
    assert json.loads(server.requests[-1][2]) == {"input": {}, "tags": ["eu", "big"]}
    options = ["--tag", "eu", "--parent", "e0", "--until", STAMP, "--since", "2h", "--text", "e"]
    assert tailrace("ls", "flow", *options).stdout.startswith("e1  failed ")
    target = server.requests[-1][0].split()[1]
    query = dict(parse_qsl(urlsplit(target).query))
    age = datetime.now(UTC) - datetime.fromisoformat(query.pop("created_after"))
    assert timedelta(hours=2) <= age < timedelta(hours=3)
    assert query == {
        "workflow_id": "flow",
        "tag": "eu",
        "parent": "e0",
        "created_before": STAMP,
        "q": "e",
        "limit": "20",
    }
    for option, value in zip(options[::2], options[1::2], strict=True):
        assert tailrace("ls", "--waiting", option, value).exit_code == 2
    wrong = tailrace("ls", "--since", "yesterday")
    assert wrong.exit_code == 2
    assert "'yesterday' is no age such as 30m" in wrong.stderr


def test_schedules_show_their_last_and_next_firing(
    tailrace: Callable[..., Result], server: ScriptedServer
):
    """With the run, unless the policy for overlaps has skipped it."""
    added = tailrace("schedule", "add", "flow", "--cron", "@daily", "--overlap", "skip")
    assert added.stdout == f"nightly  flow  @daily UTC  overlap skip  next {STAMP}\n"
    assert json.loads(server.requests[-1][2])["overlap"] == "skip"
    assert tailrace("schedule", "ls").stdout.splitlines() == [
        f"nightly  flow  @daily UTC  next {STAMP}  last {STAMP} e1",
        f"nightly  flow  @daily UTC  overlap skip  paused  last {STAMP} skipped",
    ]


def test_workflows_are_listed_shown_and_deleted(
    tailrace: Callable[..., Result], server: ScriptedServer
):
    """A definition is shown as YAML."""
    listed = tailrace("workflows", "ls").stdout
    assert listed.splitlines() == ["flow  version 7  The flow", "other  version 9"]
    assert tailrace("workflows", "show", "flow").stdout == "id: flow\nnodes: {}\n"
    assert tailrace("workflows", "rm", "flow").exit_code == 0
    assert server.requests[-1][0].startswith("DELETE ")


def test_versions_are_listed_and_compared(tailrace: Callable[..., Result]):
    """By default the newest with the one before. The exit code says whether they differ."""
    listed = tailrace("workflows", "versions", "flow").stdout.splitlines()
    assert listed == [f"7  {STAMP}  ada", f"4  {STAMP}"]
    for arguments in ((), ("4",), ("4", "7")):
        changed = tailrace("workflows", "diff", "flow", *arguments)
        assert changed.exit_code == 1
        assert "-name: old\n" in changed.stdout
        assert "+++ flow version 7" in changed.stdout
    same = tailrace("workflows", "diff", "flow", "7", "7")
    assert (same.exit_code, same.stdout) == (0, "")


def test_a_start_ends_with_the_page_and_the_next_command(
    tailrace: Callable[..., Result], server: ScriptedServer
):
    """Only the id is on stdout, for scripts."""
    started = tailrace("run", "flow")
    assert started.stdout == "e1\n"
    assert started.stderr.splitlines() == [
        f"{server.url}/#/runs/e1",
        "watch it with: tailrace watch e1",
    ]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("tailrace run f", ["flow"]),
        ("tailrace show e", ["e1"]),
        ("tailrace ls --parent f", ["f2"]),
        ("tailrace ls --tag e", ["eu"]),
        ("tailrace run flow --tag b", ["big"]),
        ("tailrace schedule add flow --overlap s", ["skip"]),
        ("tailrace workf", ["workflows"]),
        ("tailrace workflows d", ["diff"]),
        ("tailrace run --profile l", ["local"]),
    ],
)
@pytest.mark.usefixtures("tailrace")
def test_a_shell_completes_commands_and_ids(
    server: ScriptedServer,
    tmp_path: Path,
    words: str,
    expected: list[str],
):
    """It asks the API, and is silent if that does not answer."""
    (tmp_path / "config.toml").write_text(f"[profiles.local]\nurl = '{server.url}'\n")
    environment = {
        "_TAILRACE_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(words.count(" ")),
        "TAILRACE_CONFIG": str(tmp_path / "config.toml"),
        "TAILRACE_URL": server.url,
    }
    shown = CliRunner().invoke(cli, env=environment, prog_name="tailrace")
    assert shown.stdout.splitlines() == [f"plain,{word}" for word in expected]
    nothing = {**environment, "TAILRACE_URL": "http://127.0.0.1:9"}
    silent = CliRunner().invoke(cli, env=nothing, prog_name="tailrace")
    assert (silent.stderr, silent.exit_code) == ("", 0)


def test_completion_prints_a_script(tailrace: Callable[..., Result]):
    """For each shell."""
    for shell in ("bash", "zsh", "fish"):
        assert "_TAILRACE_COMPLETE" in tailrace("completion", shell).stdout


def test_a_profile_is_an_option_of_every_client_command(
    tailrace: Callable[..., Result], tmp_path: Path, server: ScriptedServer
):
    """It excludes a URL."""
    config = tmp_path / "config.toml"
    config.write_text(f"[profiles.here]\nurl = '{server.url}'\n")
    environment = {"TAILRACE_CONFIG": str(config)}
    found = CliRunner().invoke(cli, ["workflows", "ls", "--profile", "here"], env=environment)
    assert found.exit_code == 0
    other = CliRunner().invoke(cli, ["ls", "--profile", "there"], env=environment)
    assert (other.exit_code, "it has: here" in other.stderr) == (2, True)
    both = tailrace("ls", "--profile", "here", "--url", "http://x")
    assert both.exit_code == 2


def test_stats_prints_counts_and_durations(tailrace: Callable[..., Result]):
    """A duration that is not known is left out."""
    shown = tailrace("stats", "flow").stdout
    assert "3 completed, 1 failed" in shown
    assert "p50 1.5 s" in shown
    assert "no durations yet" in shown


@pytest.mark.parametrize(("value", "colours"), [("1", False), ("", None)])
def test_no_color_leaves_colours_out(
    monkeypatch: pytest.MonkeyPatch, value: str, colours: bool | None
):
    """An empty value leaves the choice to the terminal."""
    monkeypatch.setenv("NO_COLOR", value)
    assert cli.callback is not None
    with click.Context(cli) as context:
        context.invoke(cli.callback)
    assert context.color is colours


def test_a_mistyped_command_is_answered_by_the_nearest(tailrace: Callable[..., Result]):
    """With the exit code of a usage error."""
    wrong = tailrace("aply", "x.yaml")
    assert wrong.exit_code == 2
    assert "No such command 'aply', did you mean 'apply'?" in wrong.stderr
    wrong = tailrace("workflows", "version")
    assert "No such command 'version', did you mean 'versions'?" in wrong.stderr


def test_a_new_project_passes_its_tests(tmp_path: Path):
    """At once, and it is never written over another one."""
    folder = tmp_path / "project"
    assert CliRunner().invoke(cli, ["init", str(folder)]).exit_code == 0
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    ended = subprocess.run(command, cwd=folder, capture_output=True, check=False, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "3 passed" in ended.stdout
    again = CliRunner().invoke(cli, ["init", str(folder)])
    assert again.exit_code == 1
    assert "exists already" in again.stderr


def test_a_project_needs_a_folder_that_can_be_written(tmp_path: Path):
    """The error has the path, and no traceback."""
    (tmp_path / "file").touch()
    ended = CliRunner().invoke(cli, ["init", str(tmp_path / "file" / "project")])
    assert ended.exit_code == 1
    expected = f"tailrace: cannot write {tmp_path}/file/project/nodes.py: Not a directory\n"
    assert ended.stderr == expected


def test_an_unexpected_error_of_the_system_is_one_line(monkeypatch: pytest.MonkeyPatch):
    """Such as a full disk; a pipe without a reader ends quietly."""
    for number, message in (
        (errno.ENOSPC, "tailrace: No space left on device\n"),
        (errno.EPIPE, ""),
    ):
        failing = Mock(side_effect=OSError(number, os.strerror(number)))
        monkeypatch.setattr("tailrace.commands.completion.get_completion_class", failing)
        ended = CliRunner().invoke(cli, ["completion", "bash"])
        assert (ended.exit_code, ended.stderr) == (1, message)


def test_a_rerun_is_of_one_run_or_of_all_that_match(
    tailrace: Callable[..., Result], server: ScriptedServer
):
    """The options of one exclude those of the other."""
    assert tailrace("rerun", "e1", "--failed", "--latest").stdout == "e1\n"
    assert json.loads(server.requests[-1][2]) == {"failed": True, "version": "latest"}
    matching = ("--workflow", "flow", "--tag", "eu", "--status", "failed", "--since", "2h")
    listed = tailrace("rerun", *matching, "--dry-run")
    assert listed.stdout == "e1  failed     flow  would be run again\n"
    sent = json.loads(server.requests[-1][2])
    assert (sent["dry_run"], sorted(sent["filter"])) == (
        True,
        ["created_after", "status", "tag", "workflow_id"],
    )
    assert tailrace("cancel", "--workflow", "flow", "--dry-run").exit_code == 0
    for arguments in (
        ("rerun", "--failed"),
        ("rerun", "e1", "--tag", "eu"),
        ("rerun", "e1", "--latest", "--version", "3"),
        ("rerun", "--tag", "eu", "--from", "a"),
        ("rerun", "--since", "yesterday"),
        ("cancel",),
        ("cancel", "e1", "--tag", "eu"),
        ("cancel", "e1", "--dry-run"),
    ):
        assert tailrace(*arguments).exit_code == 2, arguments
