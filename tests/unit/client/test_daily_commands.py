"""Commands of every day: logs, steps, workflows, statistics, and a new project."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from harness.http.scripted_server import ScriptedServer
from tailrace.cli import cli

STAMP = "2026-01-01T00:00:00.000Z"
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
    "steps": [{**STEP, "node_id": "each"}, STEP],
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
        "GET /api/v1/workflows/flow": {"definition": {"id": "flow", "nodes": {}}},
        "GET /api/v1/workflows": {
            "workflows": [
                {"workflow_id": "flow", "version": 7, "name": "The flow"},
                {"workflow_id": "other", "version": 9, "name": "other"},
            ]
        },
        "DELETE /api/v1/workflows/flow": {},
    }

    def respond(line: str, _headers: dict[str, str], _body: bytes) -> bytes:
        path = line.removesuffix(" HTTP/1.1").partition("?")[0]
        body = msgspec.json.encode(answers[path])
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


def test_show_prints_one_step(tailrace: Callable[..., Result]):
    """Its events and its error; a misspelt id is answered by the nearest one."""
    shown = tailrace("show", "e1", "each[1]").stdout
    assert "each[1] (my.step): error, attempt 2" in shown
    assert "info: one" in shown
    assert "Traceback" in shown
    wrong = tailrace("show", "e1", "eech")
    assert wrong.exit_code == 1
    assert "no step 'eech', did you mean 'each'?" in wrong.stderr


def test_workflows_are_listed_shown_and_deleted(
    tailrace: Callable[..., Result], server: ScriptedServer
):
    """A definition is shown as YAML."""
    listed = tailrace("workflows", "ls").stdout
    assert listed.splitlines() == ["flow  version 7  The flow", "other  version 9"]
    assert tailrace("workflows", "show", "flow").stdout == "id: flow\nnodes: {}\n"
    assert tailrace("workflows", "rm", "flow").exit_code == 0
    assert server.requests[-1][0].startswith("DELETE ")


def test_stats_prints_counts_and_durations(tailrace: Callable[..., Result]):
    """A duration that is not known is left out."""
    shown = tailrace("stats", "flow").stdout
    assert "3 completed, 1 failed" in shown
    assert "p50 1.5 s" in shown
    assert "no durations yet" in shown


def test_a_mistyped_command_is_answered_by_the_nearest(tailrace: Callable[..., Result]):
    """With the exit code of a usage error."""
    wrong = tailrace("aply", "x.yaml")
    assert wrong.exit_code == 2
    assert "No such command 'aply', did you mean 'apply'?" in wrong.stderr


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
