"""Waiting runs, and the commands that control runs."""

import json
import re
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from harness.processes.tailrace_command import TailraceCommand

SAMPLES = Path(__file__).parents[3] / "examples" / "purchase_order" / "samples"
APPROVAL = "purchase-order-approval"
STEPS = json.dumps(
    {
        "id": "steps",
        "nodes": {
            f"n{number}": {
                "type": "simulate",
                "needs": [f"n{number - 1}"] if number else [],
                # A command takes a while; the pause must arrive while the second step runs.
                "with": {"duration": "10s" if number == 1 else "200ms"},
            }
            for number in range(4)
        },
    }
)
ASKING = """
id: asking
nodes:
  each:
    type: map
    with:
      for_each: "[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]"
      do: {type: simulate, with: {duration: 100ms}}
      max_parallel: 4
  ask: {type: await, needs: [each], with: {reason: a look}, timeout: 6s, on_timeout: continue}
"""
BREAKING = """
id: breaking
nodes:
  good: {type: transform, with: {value: "${input.x}"}}
  bad: {type: fail, needs: [good], when: input.breaks, with: {message: broken}}
"""


def until(process: Any, words: str) -> str:
    """Return the output of a watching command up to the line with these words."""
    while line := process.stdout.readline():
        if words in line:
            return str(line)
    raise AssertionError(f"it ended without {words!r}: {process.stderr.read()}")


def interrupt(process: Any) -> str:
    """Press Ctrl-C until a command ends; return what it wrote to stderr.

    Python ignores an interrupt that comes while it releases the lock of an import.
    """
    for _ in range(5):
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            return str(process.communicate(timeout=40)[1])
    raise AssertionError("it does not end")


def order(number: str) -> str:
    """Return the sample as another order, because runs of one order exclude each other."""
    sample = json.loads((SAMPLES / "office-furniture.json").read_text())
    return json.dumps({**sample, "po_number": number})


def test_a_waiting_run_shows_the_command_and_is_watched_to_its_end(
    tailrace: TailraceCommand,
) -> None:
    """The watch continues through the pause; the approval comes from another terminal."""
    watching = tailrace.start("run", APPROVAL, "--watch", "--input", order("PO-A"))
    assert watching.stderr is not None
    until(watching, "execution:paused")
    hint = watching.stderr.readline()
    execution = re.search(r"tailrace resume ([0-9a-f-]{36}) --approve", hint)
    assert execution is not None

    wrong = tailrace("resume", execution[1], "--approve", "--data", '{"comment": 5}')
    assert (wrong.code, wrong.stderr.count("\n")) == (1, 1)
    assert "/data/comment: 5 is not of type 'string'" in wrong.stderr
    agreed = tailrace("resume", execution[1], "--approve", "--data", '{"comment": "as agreed"}')
    assert agreed.code == 0

    rest, _ = watching.communicate(timeout=100)
    assert watching.returncode == 0
    assert "resumed   from approve" in rest
    document = tailrace("show", execution[1], "--json").json
    steps = {step["node_id"]: step for step in document["steps"]}
    assert steps["approve"]["output"]["decision"] == "approved"
    assert steps["approve"]["output"]["data"] == {"comment": "as agreed"}
    assert document["output"]["matched"] == 4
    assert sum(node.startswith("match[") for node in steps) == 4
    afterwards = tailrace("watch", execution[1])
    assert (afterwards.code, afterwards.stderr) == (0, "")


def test_a_terminal_shows_the_pause_and_how_to_end_it(tailrace: TailraceCommand) -> None:
    """The drawing shows both during the pause; the items of a map are one line."""
    tailrace("apply", str(tailrace.write("asking.yaml", ASKING)))
    outcome = tailrace.in_terminal("run", "asking", "--watch")
    assert outcome.code == 0
    assert "decide with: tailrace resume" in outcome.stdout
    assert "for a look, times out in" in outcome.stdout
    assert "12 items" in outcome.stdout
    assert "each[3]" not in outcome.stdout


def test_waiting_steps_are_listed_and_can_be_rejected(tailrace: TailraceCommand) -> None:
    """The order is not booked, and the run has not failed."""
    watching = tailrace.start("run", APPROVAL, "--watch", "--json", "--input", order("PO-B"))
    paused = json.loads(until(watching, '"execution:paused"'))
    execution = paused["data"]["execution_id"]

    waiting = tailrace("ls", "--waiting", "--json").json["waiting"]
    (found,) = [entry for entry in waiting if entry["execution_id"] == execution]
    assert (found["node_id"], found["reason"]) == ("approve", "approval")
    assert f"{execution}  approve" in tailrace("ls", "--waiting").stdout
    listed = tailrace("ls", APPROVAL, "--status", "paused", "--json").json["runs"]
    assert execution in [run["execution_id"] for run in listed]
    shown = tailrace("show", execution).stdout
    assert "for approval or approvals.po.approved, times out in" in shown
    assert "4 items" in shown
    for options in ((), ("--node", "approve"), ("--data", '{"comment": "x"}')):
        undecided = tailrace("resume", execution, *options)
        assert (undecided.code, "add --approve or --reject" in undecided.stderr) == (2, True)
    assert execution in tailrace("ls", "--waiting").stdout
    assert tailrace("resume", execution, "--node", "approve", "--reject", "--json").json

    rest, _ = watching.communicate(timeout=100)
    assert watching.returncode == 0
    document = json.loads(rest.splitlines()[-1])
    steps = {step["node_id"]: step["status"] for step in document["steps"]}
    assert (document["status"], steps["book"]) == ("completed", "skipped")
    assert execution not in tailrace("ls", "--waiting").stdout


def test_the_customer_check_of_the_demo_runs(tailrace: TailraceCommand) -> None:
    """Its secret, and the address that it asks, are set. The run's id comes first."""
    customer = json.dumps({"name": "Ann", "iban": "AT61 1904 3002 3457 3201"})
    watching = tailrace.start("run", "customer-check", "--watch", "--input", customer)
    assert watching.stdout is not None
    execution = watching.stdout.readline().strip()
    until(watching, "execution:paused")

    interrupted = tailrace.start("watch", execution)
    until(interrupted, "execution:paused")
    errors = interrupt(interrupted)
    assert interrupted.returncode == 130
    assert f"watch it again with: tailrace watch {execution}" in errors
    assert "Abort" not in errors

    assert tailrace("resume", execution, "--approve", "--data", '{"limit": 5}').code == 0
    watching.communicate(timeout=100)
    assert watching.returncode == 0
    shown = tailrace("show", execution, "--logs").stdout
    assert "execution:queued" in shown
    assert "step:completed      look_up" in shown


def test_a_signal_resumes_the_matching_run(tailrace: TailraceCommand) -> None:
    """The `match` of the event decides, not the execution's id."""
    first = tailrace.start("run", APPROVAL, "--watch", "--input", order("PO-C"))
    second = tailrace.start("run", APPROVAL, "--watch", "--input", order("PO-D"))
    for watching in (first, second):
        until(watching, "execution:paused")

    assert tailrace("signal", "approvals.po.approved", "--data", '{"po": "PO-X"}').stdout == (
        "0 resumed\n"
    )
    sent = tailrace("signal", "approvals.po.approved", "--data", '{"po": "PO-C"}', "--json")
    assert sent.json == {"matched": 1}

    first.communicate(timeout=100)
    assert first.returncode == 0
    assert second.poll() is None
    tailrace("signal", "approvals.po.approved", "--data", '{"po": "PO-D"}')
    second.communicate(timeout=100)
    assert second.returncode == 0


def test_a_run_is_paused_and_resumed(tailrace: TailraceCommand) -> None:
    """Nothing new starts in between, and nothing runs twice."""
    tailrace("apply", str(tailrace.write("steps.json", STEPS)))
    watching = tailrace.start("run", "steps", "--watch", "--json")
    execution = json.loads(until(watching, '"execution:queued"'))["data"]["execution_id"]
    until(watching, '"step:completed"')

    paused = tailrace("pause", execution, "--reason", "audit")
    assert f"tailrace resume {execution}" in paused.stdout
    until(watching, '"execution:paused"')
    assert tailrace("show", execution, "--json").json["held"] is True
    assert "continue with: tailrace resume" in tailrace("show", execution).stdout
    assert tailrace("resume", execution).code == 0

    rest, _ = watching.communicate(timeout=100)
    assert watching.returncode == 0
    document = json.loads(rest.splitlines()[-1])
    assert {step["attempt"] for step in document["steps"]} == {1}
    again = tailrace("resume", execution)
    assert (again.code, again.stderr.count("\n")) == (1, 1)
    assert "the execution is completed" in again.stderr


def test_a_failed_run_is_rerun_from_the_failed_step(tailrace: TailraceCommand) -> None:
    """The new run keeps what had succeeded, and ends as the first one did."""
    tailrace("apply", str(tailrace.write("breaking.yaml", BREAKING)))
    failed = tailrace("run", "breaking", "--watch", "--json", "--input", '{"x": 1, "breaks": true}')
    first = failed.json_lines[-1]
    assert (failed.code, first["status"]) == (1, "failed")

    again = tailrace("rerun", first["execution_id"], "--from", "bad", "--watch", "--json")

    document = again.json_lines[-1]
    assert (again.code, document["rerun_of"]) == (1, first["execution_id"])
    steps = {step["node_id"]: step for step in document["steps"]}
    assert steps["good"]["kept_from"] == first["execution_id"]
    assert steps["good"]["output"] == 1
    started = [event for event in again.json_lines if event.get("type") == "step:started"]
    assert [event["data"]["node_id"] for event in started] == ["bad"]
    output = tailrace("rerun", first["execution_id"])
    assert re.fullmatch(r"[0-9a-f-]{36}\n", output.stdout)
    unknown = tailrace("rerun", first["execution_id"], "--from", "good2")
    assert (unknown.code, "'good2'" in unknown.stderr) == (1, True)


def test_a_fixed_workflow_takes_up_its_failed_runs(tailrace: TailraceCommand) -> None:
    """One run, or all that match, which a dry run lists."""
    text = BREAKING.replace("id: breaking", "id: mended")
    tailrace("apply", str(tailrace.write("mended.yaml", text)))
    failed = tailrace("run", "mended", "--watch", "--json", "--input", '{"x": 1, "breaks": true}')
    first = failed.json_lines[-1]["execution_id"]
    fixed = text.replace("{message: broken}", "{value: mended}").replace("fail,", "transform,")
    tailrace("apply", str(tailrace.write("mended.yaml", fixed)))

    again = tailrace("rerun", first, "--failed", "--latest", "--watch", "--json")

    document = again.json_lines[-1]
    assert (again.code, document["status"], document["failed_only"]) == (0, "completed", True)
    steps = {step["node_id"]: step for step in document["steps"]}
    assert steps["good"]["kept_from"] == first
    assert steps["bad"]["output"] == "mended"
    many = ("--workflow", "mended", "--failed", "--latest")
    listed = tailrace("rerun", *many, "--dry-run")
    assert (listed.code, first in listed.stdout) == (0, True)
    done = tailrace("rerun", *many, "--json")
    assert [row["execution_id"] for row in done.json_lines[0]["executions"]] == [first]
    assert tailrace("cancel", "--workflow", "nothing", "--dry-run").stdout == ""
    assert tailrace("rerun", "--failed").code == 2


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("pause", "nothing"), 1, "there is no execution 'nothing'"),
        (("resume", "nothing"), 1, "there is no execution 'nothing'"),
        (("rerun", "nothing"), 1, "there is no execution 'nothing'"),
        (("signal", "a..b"), 1, "is not a procedure"),
        (("signal", "a.b", "--data", "[1]"), 1, "must be a JSON object"),
    ],
)
def test_a_refusal_is_one_line(
    tailrace: TailraceCommand, arguments: tuple[str, ...], code: int, sentence: str
) -> None:
    """The API's message, without a traceback."""
    outcome = tailrace(*arguments)
    assert (outcome.code, outcome.stdout) == (code, "")
    (line,) = outcome.stderr.splitlines()
    assert sentence in line


def test_waiting_steps_are_not_listed_by_workflow(tailrace: TailraceCommand) -> None:
    """The options exclude each other: exit code 2, and no request is made."""
    outcome = tailrace("ls", APPROVAL, "--waiting")
    assert outcome.code == 2
    assert "--waiting lists the steps of all runs" in outcome.stderr
