"""The client commands on a running system."""

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from harness.processes.ports import free_port
from harness.processes.tailrace_command import TailraceCommand
from harness.processes.tailrace_up import TailraceUp, wait_gone

SAMPLES = Path(__file__).parents[3] / "examples" / "purchase_order" / "samples"
TRACES = {
    "1000genome-chameleon-2ch-100k-001": 52,
    "epigenomics-chameleon-hep-1seq-100k-001": 41,
    "hic-dirt02-001": 38,
}
FAILING = "id: failing\nnodes: {a: {type: fail, with: {message: nothing works}}}\n"
SLOW = "id: slow\nnodes: {a: {type: simulate, with: {duration: 60s}}}\n"
CHAIN = json.dumps(
    {
        "id": "chain",
        "nodes": {
            f"n{number}": {
                "type": "simulate",
                "needs": [f"n{number - 1}"] if number else [],
                "with": {"duration": "100ms"},
            }
            for number in range(20)
        },
    }
)


@pytest.mark.parametrize("trace", TRACES)
def test_every_trace_of_the_demo_runs_to_its_end(tailrace: TailraceCommand, trace: str) -> None:
    """Output has one object per line, the run document last; events are the log in order."""
    outcome = tailrace("run", trace, "--watch", "--json")

    assert outcome.code == 0
    *events, document = outcome.json_lines
    assert document["status"] == "completed"
    done = [event["data"]["node_id"] for event in events if event["type"] == "step:completed"]
    assert len(done) == len(set(done)) == len(document["steps"]) == TRACES[trace]
    logs = tailrace("show", document["execution_id"], "--logs", "--json").json["logs"]
    assert [event["id"] for event in events if event.get("timestamp")] == [
        entry["id"] for entry in logs
    ]


@pytest.mark.parametrize(
    ("sample", "total", "approved"),
    [("office-furniture", 12926.10, False), ("workshop", 2025.00, True)],
)
def test_a_purchase_order_is_booked(
    tailrace: TailraceCommand, sample: str, total: float, approved: bool
) -> None:
    """A large order needs approval, a small and certain one is booked by rule."""
    outcome = tailrace(
        *("run", "purchase-order", "--watch", "--json"),
        *("--input", f"@{SAMPLES / sample}.json"),
    )

    assert outcome.code == 0
    document = outcome.json_lines[-1]
    assert document["output"]["book"]["total"] == total
    assert document["output"]["book"]["matched"] == 4
    steps = {step["node_id"]: step["status"] for step in document["steps"]}
    assert steps["approve"] == ("success" if approved else "skipped")
    assert steps["ask_a_person"] == ("skipped" if approved else "success")


def test_apply_prints_the_new_versions(tailrace: TailraceCommand) -> None:
    """A program that deploys needs the version that it has deployed."""
    tailrace.write("failing.yaml", FAILING)

    (first,) = tailrace("apply", "--json", "failing.yaml").json
    (again,) = tailrace("apply", "--json", ".").json

    assert first == {"workflow_id": "failing", "version": first["version"]}
    assert isinstance(first["version"], int)
    assert again == first


def test_every_problem_is_listed_and_nothing_installed(tailrace: TailraceCommand) -> None:
    """One line per problem; a valid file beside an invalid one is not installed."""
    tailrace.write("good.yaml", "id: good\nnodes: {a: {type: log, with: {message: hi}}}\n")
    tailrace.write("bad.yaml", "id: bad\nnodes: {a: {type: lag}, b: {type: log, needs: [c]}}\n")

    for command in ("validate", "apply"):
        outcome = tailrace(command, "good.yaml", "bad.yaml")
        assert outcome.code == 1
        assert re.search(r"(?m)^bad\.yaml:2:\d+: /nodes/a/type: .*'lag'", outcome.stderr)
        assert re.search(r"(?m)^bad\.yaml:2:\d+: /nodes/b/needs/0: .*'c'", outcome.stderr)
        assert "good.yaml" not in outcome.stderr

    assert tailrace("run", "good").stderr == (
        "tailrace: there is no workflow 'good': apply its definition first\n"
    )


def test_validate_prints_json(tailrace: TailraceCommand) -> None:
    """The JSON output has the validity and the pointer of each problem."""
    tailrace.write("bad.yaml", "id: bad\nnodes: {a: {type: lag}}\n")

    (checked,) = tailrace("validate", "--json", "bad.yaml").json

    assert (checked["file"], checked["valid"]) == ("bad.yaml", False)
    assert checked["errors"][0]["pointer"] == "/nodes/a/type"


def test_import_apply_and_run_are_one_pipeline(tailrace: TailraceCommand) -> None:
    """An imported trace becomes a workflow and runs."""
    trace = {
        "schemaVersion": "1.5",
        "name": "tiny",
        "workflow": {
            "specification": {"tasks": [{"id": "a.1", "children": ["b"]}, {"id": "b"}]},
            "execution": {"tasks": [{"id": "b", "runtimeInSeconds": 3}]},
        },
    }
    tailrace.write("tiny.trace.json", json.dumps(trace))

    imported = tailrace("import", "wfcommons", "--scale", "0.01", "tiny.trace.json").stdout
    tailrace.write("tiny.json", imported)
    (applied,) = tailrace("apply", "--json", "tiny.json").json
    outcome = tailrace("run", applied["workflow_id"], "--watch", "--json")

    assert outcome.code == 0
    steps = {step["name"]: step for step in outcome.json_lines[-1]["steps"]}
    assert steps.keys() == {"a.1", "b"}
    assert steps["b"]["duration_ms"] >= 30


def test_a_failed_run_exits_with_one_and_says_why(tailrace: TailraceCommand) -> None:
    """The output shows the error message of the step."""
    tailrace("apply", str(tailrace.write("failing.yaml", FAILING)))

    outcome = tailrace("run", "failing", "--watch")

    assert outcome.code == 1
    assert re.search(r"(?m)^\S+Z step:failed +a .*nothing works$", outcome.stdout)
    assert "1 failed" in outcome.stdout


def test_a_cancelled_run_exits_with_three(tailrace: TailraceCommand) -> None:
    """A second command cancels the run that the first one watches."""
    tailrace("apply", str(tailrace.write("slow.yaml", SLOW)))
    execution = tailrace("run", "slow").stdout.strip()
    watching = tailrace.start("watch", execution)
    assert watching.stdout is not None
    while "step:started" not in watching.stdout.readline():
        pass

    assert tailrace("cancel", execution, "--reason", "enough").code == 0

    rest, _ = watching.communicate(timeout=100)
    assert watching.returncode == 3
    assert "enough" in rest
    listed = tailrace("ls", "slow", "--status", "cancelled", "--json").json["runs"]
    assert execution in [summary["execution_id"] for summary in listed]


def test_a_run_that_is_not_watched_is_only_started(tailrace: TailraceCommand) -> None:
    """Stdout is only its id, or its document with --json."""
    tailrace("apply", str(tailrace.write("chain.json", CHAIN)))

    started = tailrace("run", "chain")
    document = tailrace("run", "chain", "--json").json

    assert re.fullmatch(r"[0-9a-f-]{36}\n", started.stdout)
    assert document["workflow_id"] == "chain"
    assert tailrace("watch", document["execution_id"]).code == 0


def test_watch_continues_after_an_id(tailrace: TailraceCommand) -> None:
    """Earlier events are not repeated, and all later ones are shown."""
    tailrace("apply", str(tailrace.write("chain.json", CHAIN)))
    *events, document = tailrace("run", "chain", "--watch", "--json").json_lines
    logged = [event["id"] for event in events if event.get("timestamp")]

    outcome = tailrace("watch", document["execution_id"], "--from", logged[9], "--json")

    *rest, _ = outcome.json_lines
    assert [event["id"] for event in rest if event.get("timestamp")] == logged[10:]
    ended = tailrace("watch", document["execution_id"], "--from", logged[-1], "--json")
    assert (ended.code, len(ended.json_lines)) == (0, 1)


def test_a_terminal_gets_a_drawing(tailrace: TailraceCommand) -> None:
    """52 nodes fit on 24 lines, and a summary follows."""
    outcome = tailrace.in_terminal("run", "1000genome-chameleon-2ch-100k-001", "--watch")

    assert outcome.code == 0
    assert "●" in outcome.stdout
    assert "·" in outcome.stdout
    assert "52 done" in outcome.stdout
    shown = tailrace("show", re.findall(r"execution ([0-9a-f-]{36})", outcome.stdout)[-1])
    assert shown.stdout.count("✓") == 52


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("show", "nothing"), "there is no execution 'nothing'"),
        (("watch", "nothing"), "there is no execution 'nothing'"),
        (("cancel", "nothing"), "there is no execution 'nothing'"),
        (("run", "nothing"), "there is no workflow 'nothing'"),
        (("run", "purchase-order"), "/input: 'po_number' is a required property"),
        (("show", "a b"), "is not an id"),
    ],
)
def test_a_refusal_is_one_line(
    tailrace: TailraceCommand, arguments: tuple[str, ...], sentence: str
) -> None:
    """The API's message, without a traceback."""
    outcome = tailrace(*arguments)

    assert (outcome.code, outcome.stdout) == (1, "")
    (line,) = outcome.stderr.splitlines()
    assert sentence in line


def test_an_unreachable_api_is_a_one_line_error(tmp_path: Path) -> None:
    """The exit code is 2, because no request was made."""
    tailrace = TailraceCommand(f"http://127.0.0.1:{free_port()}", tmp_path)

    for arguments in (("ls",), ("run", "x", "--watch"), ("watch", "x")):
        outcome = tailrace(*arguments)
        assert outcome.code == 2
        assert outcome.stderr.count("\n") == 1
        assert "tailrace up" in outcome.stderr


@pytest.mark.parametrize("victims", [("tailrace_api", "tailrace_worker"), ("nats-server",)])
def test_a_run_and_its_watching_outlive_the_processes(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, victims: tuple[str, ...]
) -> None:
    """Processes killed in the middle of a run are restarted; each event is seen once."""
    environment = {"TAILRACE_ACK_WAIT": "2s"}
    with TailraceUp(tmp_path_factory.mktemp("up"), environment=environment) as up:
        tailrace = TailraceCommand(up.wait_ready().url, tmp_path)
        tailrace("apply", str(tailrace.write("chain.json", CHAIN)))
        watching = tailrace.start("run", "chain", "--watch", "--json")
        assert watching.stdout is not None
        seen: list[Any] = []
        while len(seen) < 12:
            seen.append(json.loads(watching.stdout.readline()))

        for victim in victims:
            os.kill(up.child(victim), signal.SIGKILL)

        rest, errors = watching.communicate(timeout=100)
        assert watching.returncode == 0, errors
        *events, document = [*seen, *map(json.loads, rest.splitlines())]
        logs = tailrace("show", document["execution_id"], "--logs", "--json").json["logs"]
        assert [event["id"] for event in events if event.get("timestamp")] == [
            entry["id"] for entry in logs
        ]


def test_a_run_continues_after_a_restart(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The system stops cleanly in the middle of a run."""
    folder = tmp_path_factory.mktemp("up")
    environment = {"TAILRACE_ACK_WAIT": "2s"}
    with TailraceUp(folder, environment=environment) as up:
        tailrace = TailraceCommand(up.wait_ready().url, tmp_path)
        tailrace("apply", str(tailrace.write("chain.json", CHAIN)))
        execution = tailrace("run", "chain").stdout.strip()
        pids = list(up.children())
        up.send(signal.SIGTERM)
        assert up.wait() == 0
        wait_gone(pids)

    with TailraceUp(folder, environment=environment) as up:
        tailrace = TailraceCommand(up.wait_ready().url, tmp_path)

        assert tailrace("watch", execution).code == 0
