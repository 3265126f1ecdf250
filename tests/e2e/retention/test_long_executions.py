"""Executions that are older than the retention can be shown, commanded and completed.

The retention is four seconds. Each test waits until an execution that ended after its own had begun
is deleted: everything before that is then older than the retention.
"""

import time
from typing import Any

import httpx
import pytest

from harness.processes.tailrace_up import TailraceUp
from tailrace import Client
from tailrace.errors import RefusedError

APPROVAL = {"type": "await", "with": {"reason": "approval"}}
WORKFLOWS: dict[str, dict[str, Any]] = {
    "marker": {"nodes": {"a": {"type": "transform", "with": {"value": 1}}}},
    "approval": {"nodes": {"ask": APPROVAL}},
    "timer": {"nodes": {"wait": {"type": "delay", "with": {"duration": "9s"}}}},
    "slow": {"nodes": {"work": {"type": "simulate", "with": {"duration": "9s"}}}},
    "single": {"concurrency": {"limit": 1}, "nodes": {"ask": APPROVAL}},
    "parent": {"nodes": {"child": {"type": "workflow", "with": {"id": "approval"}}}},
}


@pytest.fixture(scope="module", autouse=True)
def _workflows(system: TailraceUp) -> None:
    with Client(system.url) as client:
        for name, workflow in WORKFLOWS.items():
            client.apply({"id": name, **workflow})


def until(condition: Any, seconds: float = 60.0) -> Any:
    """Return the first result of ``condition`` that is true."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return result


def outlive_the_retention(client: Client) -> None:
    """Return when an execution that starts now has ended and is deleted."""
    marker = client.run("marker")["execution_id"]
    ended(client, marker)
    until(lambda: not exists(client, marker))


def exists(client: Client, execution: str) -> bool:
    """Tell whether the API has an execution."""
    try:
        client.get(execution)
    except RefusedError as error:
        if error.status != 404:
            raise
        return False
    return True


def ended(client: Client, execution: str) -> dict[str, Any]:
    """Return the document of an execution that has ended."""
    until(lambda: client.get(execution)["finished_at"])
    return client.get(execution)


def status(client: Client, execution: str, wanted: str) -> None:
    """Wait until an execution has a status."""
    until(lambda: client.get(execution)["status"] == wanted)


def listed(client: Client) -> set[str]:
    """Return the ids of all executions in the list."""
    return {run["execution_id"] for run in client.list(limit=200)["runs"]}


def test_executions_outlive_the_retention_while_they_have_not_ended(client: Client) -> None:
    """Waiting, sleeping, running, queued, and a parent with its child."""
    waiting = client.run("approval")["execution_id"]
    sleeping = client.run("timer")["execution_id"]
    running = client.run("slow")["execution_id"]
    first, queued = (client.run("single")["execution_id"] for _ in range(2))
    parent = client.run("parent")["execution_id"]
    child = until(lambda: child_of(client, parent))
    status(client, waiting, "paused")
    status(client, first, "paused")
    outlive_the_retention(client)

    alive = {waiting, sleeping, running, first, queued, parent, child}
    assert alive <= listed(client)
    for execution in alive:
        assert client.get(execution, include_logs=True)["logs"][0]["type"] == "execution:queued"
    # All of them can be commanded, and complete.
    client.resume(waiting, decision="approved")
    client.resume(first, decision="approved")
    client.resume(child, decision="approved")
    status(client, queued, "paused")
    client.resume(queued, decision="approved")
    for execution in alive:
        assert ended(client, execution)["status"] == "completed"
    assert [event.type for event in client.events(waiting)][-1] == "execution:completed"


def child_of(client: Client, parent: str) -> str:
    """Return the id of a parent's only child, or nothing."""
    for run in client.list("approval", limit=200)["runs"]:
        document = client.get(run["execution_id"])
        if document["parent"] and document["parent"]["execution_id"] == parent:
            return str(document["execution_id"])
    return ""


def test_a_paused_parent_finds_its_child_that_ended_long_ago(client: Client) -> None:
    """The child is kept until its parent has ended."""
    parent = client.run("parent")["execution_id"]
    child = until(lambda: child_of(client, parent))
    client.pause(parent)
    until(lambda: client.get(parent)["status"] == "paused")
    client.resume(child, decision="approved")
    ended(client, child)
    outlive_the_retention(client)
    outlive_the_retention(client)
    assert exists(client, child)
    client.resume(parent)
    assert ended(client, parent)["status"] == "completed"
    until(lambda: not exists(client, child))


def test_an_ended_execution_is_whole_and_then_disappears(
    client: Client, system: TailraceUp
) -> None:
    """Its log, its place in the list and its stream are deleted together."""
    execution = client.run("marker")["execution_id"]
    whole = ended(client, execution)
    shown = client.get(execution, include_logs=True)
    assert shown["logs"][-1]["type"] == "execution:completed"
    assert whole["output"] == {"a": 1}
    until(lambda: not exists(client, execution))
    assert execution not in listed(client)
    stream = f"{system.url}/api/v1/sse/executions/{execution}/stream"
    assert httpx.get(stream).status_code == 404
