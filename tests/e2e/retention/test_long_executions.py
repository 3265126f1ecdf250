"""Executions that are older than the retention can be shown, commanded and completed.

Each test waits until an execution that ended after its own had begun is deleted: everything before
that is then older than the retention. Ends are read from streams that were opened before: on a slow
machine an execution may be deleted before a request finds its end.
"""

import threading
import time
from datetime import datetime
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
    "timer": {"nodes": {"wait": {"type": "delay", "with": {"duration": "${input.for}"}}}},
    "slow": {"nodes": {"work": {"type": "simulate", "with": {"duration": "${input.for}"}}}},
    "single": {"concurrency": {"limit": 1}, "nodes": {"ask": APPROVAL}},
    "parent": {"nodes": {"child": {"type": "workflow", "with": {"id": "approval"}}}},
}


@pytest.fixture(scope="module", autouse=True)
def _workflows(system: TailraceUp) -> None:
    with Client(system.url) as client:
        for name, workflow in WORKFLOWS.items():
            client.apply({"id": name, **workflow})


def until(condition: Any, seconds: float = 300.0) -> Any:
    """Return the first result of ``condition`` that is true."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return result


class Followed(threading.Thread):
    """An execution whose events are read as they happen."""

    def __init__(self, client: Client, execution: str) -> None:
        super().__init__(daemon=True)
        self._events = iter(client.events(execution))
        self._types = [next(self._events).type for _ in ("connected", "execution:queued")]
        self.start()

    def run(self) -> None:
        """Read until the execution has ended."""
        self._types += [event.type for event in self._events]

    def types(self) -> list[str]:
        """Return the types of all events, once the execution has ended."""
        self.join(300)
        assert not self.is_alive()
        return self._types


def outlive_the_retention(client: Client) -> None:
    """Return when an execution that starts now has ended and is deleted."""
    marker = client.run("marker")["execution_id"]
    until(lambda: not exists(client, marker))


def document(client: Client, execution: str) -> dict[str, Any]:
    """Return an execution with its log; empty if the API does not have it."""
    try:
        return client.get(execution, include_logs=True)
    except RefusedError as error:
        if error.status != 404:
            raise
        return {}


def exists(client: Client, execution: str) -> bool:
    """Tell whether the API has an execution."""
    return bool(document(client, execution))


def status(client: Client, execution: str, wanted: str) -> None:
    """Wait until an execution that is not deleted meanwhile has a status."""
    until(lambda: client.get(execution)["status"] == wanted)


def listed(client: Client) -> set[str]:
    """Return the ids of all executions in the list."""
    return {run["execution_id"] for run in client.list(limit=200)["runs"]}


def test_executions_outlive_the_retention_while_they_have_not_ended(
    client: Client, retention: int
) -> None:
    """Waiting, sleeping, running, queued, and a parent with its child."""
    waiting = client.run("approval")["execution_id"]
    # These two end by themselves, after more than twice the retention.
    long = {"for": f"{2 * retention + 1}s"}
    sleeping = client.run("timer", long)["execution_id"]
    running = client.run("slow", long)["execution_id"]
    first, queued = (client.run("single")["execution_id"] for _ in range(2))
    parent = client.run("parent")["execution_id"]
    child = until(lambda: child_of(client, parent))
    lives = [waiting, first, queued, parent, child]
    followed = [Followed(client, execution) for execution in (sleeping, running, *lives)]
    status(client, waiting, "paused")
    status(client, first, "paused")
    outlive_the_retention(client)

    assert set(lives) <= listed(client)
    waits = {wait["execution_id"] for wait in client.waiting(limit=100)["waiting"]}
    assert {waiting, first, child} <= waits
    for execution in lives:
        assert client.get(execution, include_logs=True)["logs"][0]["type"] == "execution:queued"
    # All of them can be commanded, and complete.
    client.resume(waiting, decision="approved")
    client.resume(first, decision="approved")
    client.resume(child, decision="approved")
    status(client, queued, "paused")
    client.resume(queued, decision="approved")
    for each in followed:
        types = each.types()
        assert (types[1], types[-1]) == ("execution:queued", "execution:completed")
        assert "stream:reset" not in types


def test_executions_older_than_the_retention_can_be_stopped(client: Client) -> None:
    """Paused, resumed, signalled and cancelled: a wait, a timer, an attempt, and a queued one."""
    never = {"for": "1h"}
    waiting = client.run("approval")["execution_id"]
    sleeping = client.run("timer", never)["execution_id"]
    running = client.run("slow", never)["execution_id"]
    first, queued = (client.run("single")["execution_id"] for _ in range(2))
    parent = client.run("parent")["execution_id"]
    child = until(lambda: child_of(client, parent))
    lives = [waiting, sleeping, running, first, queued, parent, child]
    followed = [Followed(client, execution) for execution in lives]
    outlive_the_retention(client)

    client.pause(sleeping)
    status(client, sleeping, "paused")
    client.resume(sleeping)
    status(client, sleeping, "running")
    # The child is cancelled with its parent.
    for execution in (waiting, sleeping, running, queued, first, parent):
        client.cancel(execution)
    for each in followed:
        types = each.types()
        assert (types[1], types[-1]) == ("execution:queued", "execution:cancelled")
        assert "stream:reset" not in types


def child_of(client: Client, parent: str) -> str:
    """Return the id of a parent's only child, or nothing."""
    for run in client.list("approval", limit=200)["runs"]:
        shown = document(client, run["execution_id"])
        if shown and shown["parent"] and shown["parent"]["execution_id"] == parent:
            return str(shown["execution_id"])
    return ""


def test_a_paused_parent_finds_its_child_that_ended_long_ago(client: Client) -> None:
    """The child is kept until its parent has ended."""
    parent = client.run("parent")["execution_id"]
    followed = Followed(client, parent)
    child = until(lambda: child_of(client, parent))
    client.pause(parent)
    status(client, parent, "paused")
    client.resume(child, decision="approved")
    status(client, child, "completed")
    outlive_the_retention(client)
    outlive_the_retention(client)
    assert exists(client, child)
    client.resume(parent)
    assert followed.types()[-1] == "execution:completed"
    until(lambda: not exists(client, child))


def ended_marker(client: Client, retention: int) -> dict[str, Any]:
    """Return an execution that has ended; empty if that took longer than the retention."""
    begun = time.monotonic()
    execution = client.run("marker")["execution_id"]
    while (shown := document(client, execution)) and not shown["finished_at"]:
        time.sleep(0.05)
    assert shown or time.monotonic() - begun >= retention
    return shown


def test_an_ended_execution_is_whole_and_then_disappears(
    client: Client, system: TailraceUp, retention: int
) -> None:
    """Its log, its place in the list and its stream are deleted together."""
    whole = until(lambda: ended_marker(client, retention))
    execution = whole["execution_id"]
    assert whole["logs"][-1]["type"] == "execution:completed"
    assert whole["output"] == {"a": 1}
    while shown := document(client, execution):
        assert shown == whole
        time.sleep(0.05)
    # One clock gave the time of the end, another that of the log, both of this machine.
    ended = datetime.fromisoformat(whole["finished_at"]).timestamp()
    assert time.time() - ended >= retention - 0.01
    assert execution not in listed(client)
    stream = f"{system.url}/api/v1/sse/executions/{execution}/stream"
    assert httpx.get(stream).status_code == 404
