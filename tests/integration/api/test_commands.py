"""Commands over HTTP: accepted once, if the state allows it, and passed to a worker."""

import asyncio
from typing import Any

import httpx
import msgspec
import pytest
from nats.aio.client import Client

from harness.generators import hand_written_log as written
from harness.generators.hand_written_log import NOW, HandWrittenLog
from harness.nats.message_counts import stored, taken
from tailrace_shared.execution import events as ev
from tailrace_shared.execution.state import ExecutionState
from tailrace_shared.nats.jetstream import JetStream
from tailrace_shared.stores.execution_log import ExecutionLog
from tailrace_shared.subjects import Subjects

FORM = {
    "type": "object",
    "required": ["amount"],
    "properties": {"amount": {"type": "number", "minimum": 0}},
}
FLOW = {
    "nodes": {
        "approve": {"type": "await", "with": {"form": FORM}},
        "payment": {"type": "await"},
        "later": {"type": "await", "needs": ["approve"]},
    }
}


@pytest.fixture
async def log(nats_client: Client, tenant: str, version: int) -> HandWrittenLog:
    """A running execution whose steps have not begun."""
    log = HandWrittenLog(nats_client, tenant)
    await log.begin("flow", version)
    return log


class Commands:
    """Sends commands to one execution."""

    def __init__(self, http: httpx.AsyncClient, jetstream: JetStream, log: HandWrittenLog) -> None:
        self._http = http
        self._log = log
        self.reader = ExecutionLog(jetstream, Subjects())

    async def __call__(self, command: str, body: Any = None, key: str = "") -> httpx.Response:
        """Send a command."""
        headers = {"idempotency-key": key} if key else {}
        path = f"/api/v1/executions/{self._log.execution}/{command}"
        return await self._http.post(path, json={} if body is None else body, headers=headers)

    async def state(self) -> ExecutionState:
        """Return the folded log; the test's own commits continue from there."""
        history = await self.reader.load(self._log.tenant, self._log.execution)
        self._log.last = history.last_sequence
        return history.state

    async def document(self) -> Any:
        """Return the document of the execution, with its log."""
        path = f"/api/v1/executions/{self._log.execution}?include_logs=true"
        return (await self._http.get(path)).json()

    async def requested(self) -> list[ev.Command]:
        """Return the commands in the log."""
        found = self.reader.read(self._log.tenant, self._log.execution)
        events = [event async for commit in found for event in commit.events()]
        return [event.data for event in events if isinstance(event, ev.CommandRequested)]


@pytest.fixture
def ask(http: httpx.AsyncClient, jetstream: JetStream, log: HandWrittenLog) -> Commands:
    """Sends commands to the execution."""
    return Commands(http, jetstream, log)


async def wait(log: HandWrittenLog, *nodes: str, **fields: Any) -> None:
    """Append that nodes wait for a signal, and that the execution is paused."""
    for node in nodes:
        waiting = ev.StepWait(node, "await", "waiting", wait="signal", attempt=1, **fields)
        await log.commit(written.step_started(node, "await"), ev.StepWaiting(waiting, NOW))
    await log.commit(
        ev.ExecutionPaused(ev.Paused(log.execution, "paused", "signal", waiting=list(nodes)), NOW)
    )


def places(answer: httpx.Response) -> list[str]:
    """Return the JSON Pointers of a refusal."""
    return [error["pointer"] for error in answer.json()["errors"]]


async def test_cancelling_is_recorded_once_and_enqueued(
    ask: Commands, log: HandWrittenLog, jetstream: JetStream
) -> None:
    """A second request changes nothing."""
    before = await stored(jetstream)
    first = await ask("cancel", {"reason": "enough"})
    assert first.status_code == 202
    accepted = first.json()
    assert accepted.pop("command_id")
    assert accepted.pop("event_id")
    assert accepted == {
        "execution_id": log.execution,
        "status": "running",
        "stream_url": f"/api/v1/sse/executions/{log.execution}/stream",
    }
    assert await taken(jetstream, before) == {"EVENTS": 1, "JOBS": 1, "KV_due": 1}
    assert (await ask("cancel")).status_code == 202
    assert (await taken(jetstream, before))["EVENTS"] == 1
    (command,) = await ask.requested()
    assert (command.command, command.reason, command.actor) == ("cancel", "enough", "")
    await ask.state()
    await log.commit(ev.ExecutionCancelled(ev.Cancelled(log.execution, "cancelled", 5), NOW))
    assert (await ask("cancel")).json()["status"] == "cancelled"


@pytest.mark.parametrize("command", ["cancel", "pause", "resume"])
async def test_a_finished_execution_refuses_commands(
    ask: Commands, log: HandWrittenLog, jetstream: JetStream, command: str
) -> None:
    """409 with the reason, and nothing is stored."""
    await log.complete()
    before = await stored(jetstream)
    answer = await ask(command)
    assert answer.status_code == 409
    assert "the execution is completed" in answer.json()["detail"]
    assert await taken(jetstream, before) == {}


@pytest.mark.parametrize("command", ["cancel", "pause", "resume", "rerun"])
async def test_an_unknown_execution_is_404(
    http: httpx.AsyncClient, jetstream: JetStream, command: str
) -> None:
    """The request leaves no entry for the sweeper."""
    before = await stored(jetstream)
    answer = await http.post(f"/api/v1/executions/gone/{command}", json={})
    assert answer.status_code == 404
    assert await taken(jetstream, before) == {}


async def test_a_pause_lasts_until_it_is_resumed(
    http: httpx.AsyncClient, ask: Commands, log: HandWrittenLog, jetstream: JetStream
) -> None:
    """A second pause changes nothing; a second resume is a conflict."""
    before = await stored(jetstream)
    assert (await ask("pause", {"reason": "audit"})).status_code == 202
    assert (await ask("pause")).status_code == 202
    assert (await taken(jetstream, before))["EVENTS"] == 1
    assert (await ask.state()).is_held
    path = f"/api/v1/executions/{log.execution}"
    assert (await http.get(path)).json()["held"] is True
    assert (await ask("resume")).status_code == 202
    assert "held" not in (await http.get(path)).json()
    assert not (await ask.state()).is_held
    answer = await ask("resume")
    assert answer.status_code == 409
    assert "none of its steps waits" in answer.json()["detail"]
    assert [command.command for command in await ask.requested()] == ["pause", "resume"]


@pytest.mark.parametrize("command", ["cancel", "pause", "resume"])
async def test_an_idempotency_key_deduplicates_commands(
    ask: Commands, log: HandWrittenLog, command: str
) -> None:
    """The answer is the same even if the execution has changed since."""
    await wait(log, "payment")
    answers = [await ask(command, key="k1") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [202, 202, 202]
    (requested,) = await ask.requested()
    first, *repeated = [answer.json() for answer in answers]
    assert {each["command_id"] for each in (first, *repeated)} == {requested.command_id}
    assert [each["event_id"] for each in repeated] == [None, None]
    logs = (await ask.document())["logs"]
    (event,) = [entry for entry in logs if entry["type"] == "command:requested"]
    assert first["event_id"] == event["id"]


async def test_an_empty_resume_approves_the_only_waiting_step(
    ask: Commands, log: HandWrittenLog
) -> None:
    """The request names neither a node nor a decision."""
    await wait(log, "payment")
    assert (await ask("resume")).status_code == 202
    (command,) = await ask.requested()
    assert (command.command, command.node_id, command.decision) == (
        "resolve",
        "payment",
        "approved",
    )


async def test_a_resume_of_only_a_pause_decides_no_step(ask: Commands, log: HandWrittenLog) -> None:
    """The pause may have ended since the caller saw it; the same request again is no conflict."""
    await wait(log, "payment")
    refused = await ask("resume", {"only_paused": True})
    assert refused.status_code == 409
    assert "it was not paused by a request" in refused.json()["detail"]
    assert await ask.requested() == []
    await ask("pause")
    for _ in range(2):
        assert (await ask("resume", {"only_paused": True}, "k")).status_code == 202
    assert [command.command for command in await ask.requested()] == ["pause", "resume"]


async def test_with_several_waiting_steps_one_must_be_named(
    ask: Commands, log: HandWrittenLog
) -> None:
    """Each gets its own decision, in any order."""
    await wait(log, "approve", "payment")
    answer = await ask("resume", {"decision": "approved"})
    assert answer.status_code == 409
    assert "choose one with node_id: approve, payment" in answer.json()["detail"]
    rejected = {"node_id": "payment", "decision": "rejected", "data": {"why": "too much"}}
    assert (await ask("resume", rejected)).status_code == 202
    assert (await ask("resume", {"node_id": "approve", "data": {"amount": 5}})).status_code == 202
    assert [(c.node_id, c.decision, c.data) for c in await ask.requested()] == [
        ("payment", "rejected", {"why": "too much"}),
        ("approve", "approved", {"amount": 5}),
    ]
    again = await ask("resume", {"node_id": "approve", "data": {"amount": 6}})
    assert again.status_code == 409
    assert "already has its decision" in again.json()["detail"]


async def test_data_must_match_the_form(ask: Commands, log: HandWrittenLog) -> None:
    """Every error is reported; missing data is an error, except for rejections."""
    await wait(log, "approve", form=FORM)
    wrong = await ask("resume", {"data": {"amount": -1}})
    assert (wrong.status_code, places(wrong)) == (422, ["/data/amount"])
    missing = await ask("resume", {"decision": "approved"})
    assert (missing.status_code, places(missing)) == (422, ["/data"])
    assert (await ask("resume")).status_code == 422
    no_object = await ask("resume", {"decision": "rejected", "data": "no"})
    assert (no_object.status_code, places(no_object)) == (422, ["/data"])
    large = await ask("resume", {"data": {"amount": 1, "x": "x" * 300_000}})
    assert (large.status_code, places(large)) == (422, ["/data"])
    assert await ask.requested() == []
    assert (await ask("resume", {"decision": "rejected"})).status_code == 202


async def test_data_has_the_defaults_of_the_form(ask: Commands, log: HandWrittenLog) -> None:
    """They are part of the recorded decision."""
    properties = {"amount": {"type": "number"}, "currency": {"default": "EUR"}}
    await wait(log, "approve", form={"properties": properties, "required": ["currency"]})
    assert (await ask("resume", {"data": {"amount": 1}})).status_code == 202
    (requested,) = await ask.requested()
    assert requested.data == {"amount": 1, "currency": "EUR"}


async def test_only_waiting_steps_can_be_resumed(ask: Commands, log: HandWrittenLog) -> None:
    """A node that does not wait is a conflict; an unknown node is a bad request."""
    await wait(log, "approve")
    pending = await ask("resume", {"node_id": "later"})
    assert (pending.status_code, "is pending" in pending.json()["detail"]) == (409, True)
    unknown = await ask("resume", {"node_id": "aprove"})
    assert (unknown.status_code, places(unknown)) == (422, ["/node_id"])
    assert "did you mean 'approve'?" in unknown.json()["errors"][0]["detail"]


async def test_one_of_racing_decisions_wins(ask: Commands, log: HandWrittenLog) -> None:
    """The others get a conflict: the step is decided."""
    await wait(log, "payment")
    bodies = [{"node_id": "payment", "decision": d} for d in ("approved", "rejected") * 5]
    answers = await asyncio.gather(*(ask("resume", body) for body in bodies))
    assert sorted(answer.status_code for answer in answers) == [202] + [409] * 9
    assert len(await ask.requested()) == 1


async def test_resuming_a_pause_keeps_the_step_waiting(ask: Commands, log: HandWrittenLog) -> None:
    """A resume ends the pause first; a decision can be made during the pause."""
    await wait(log, "payment")
    await ask("pause")
    assert (await ask("resume")).status_code == 202
    assert (await ask.requested())[-1].command == "resume"
    await ask("pause")
    assert (await ask("resume", {"node_id": "payment"})).status_code == 202
    assert (await ask.state()).is_held


@pytest.mark.parametrize(
    ("command", "body", "place"),
    [
        ("cancel", {"reson": "x"}, "/reson"),
        ("cancel", {"reason": 5}, "/reason"),
        ("pause", {"reason": "x" * 1001}, "/reason"),
        ("resume", {"node": "payment"}, "/node"),
        ("resume", {"node_id": 5}, "/node_id"),
        ("resume", {"node_id": ""}, "/node_id"),
        ("resume", {"only_paused": "yes"}, "/only_paused"),
        ("resume", {"only_paused": True, "node_id": "payment"}, "/only_paused"),
        ("resume", {"decision": "maybe"}, "/decision"),
        ("resume", {"decision": ["approved"]}, "/decision"),
        ("rerun", {"from": "a"}, "/from"),
        ("rerun", {"from_node": ["a"]}, "/from_node"),
    ],
)
async def test_an_invalid_body_is_refused_with_its_place(
    ask: Commands, command: str, body: Any, place: str
) -> None:
    """422, and nothing is appended to the log."""
    answer = await ask(command, body)
    assert (answer.status_code, places(answer)) == (422, [place])
    assert await ask.requested() == []


async def test_what_a_step_waits_for_is_in_the_run_document(
    http: httpx.AsyncClient, ask: Commands, log: HandWrittenLog
) -> None:
    """Enough to draw the form and to explain the wait."""
    await wait(
        log,
        "approve",
        reason="approval",
        until="2030-01-01T00:00:00.000Z",
        on_timeout="cancel",
        triggers=["po.approved"],
        match="event.po == input.po",
        form=FORM,
    )
    run = (await http.get(f"/api/v1/executions/{log.execution}")).json()
    steps = {step["node_id"]: step for step in run["steps"]}
    assert run["status"] == "paused"
    expected = {
        "kind": "signal",
        "reason": "approval",
        "until": "2030-01-01T00:00:00.000Z",
        "on_timeout": "cancel",
        "triggers": ["po.approved"],
        "match": "event.po == input.po",
        "form": FORM,
    }
    assert steps["approve"]["waiting_for"] == expected
    assert steps["payment"]["waiting_for"] is None
    await ask("resume", {"node_id": "approve", "data": {"amount": 1}})
    run = (await http.get(f"/api/v1/executions/{log.execution}")).json()
    assert run["steps"][0]["waiting_for"] == {**expected, "decided": True}


async def test_a_rerun_is_a_new_run_that_names_the_original(
    http: httpx.AsyncClient, ask: Commands, log: HandWrittenLog, jetstream: JetStream
) -> None:
    """An idempotency key gives the same rerun; without one each is new."""
    await log.complete()
    first = await ask("rerun", {"from_node": "later"}, key="k")
    assert first.status_code == 202
    run = first.json()
    assert (run["rerun_of"], run["from_node"], run["status"]) == (log.execution, "later", "queued")
    assert (await ask("rerun", {"from_node": "later"}, key="k")).json() == run
    assert (await ask("rerun")).json()["execution_id"] != run["execution_id"]
    shown = (await http.get(first.headers["location"])).json()
    assert (shown["rerun_of"], shown["from_node"], shown["parent"]) == (
        log.execution,
        "later",
        None,
    )
    job = await jetstream.get("JOBS", {"last_by_subj": "tr.jobs.executions"})
    assert job is not None
    assert msgspec.json.decode(job.data)["args"][0] == log.tenant


async def test_only_finished_executions_can_be_rerun(ask: Commands, log: HandWrittenLog) -> None:
    """The node to start from must exist."""
    running = await ask("rerun")
    assert running.status_code == 409
    await log.complete()
    unknown = await ask("rerun", {"from_node": "latr"})
    assert (unknown.status_code, places(unknown)) == (422, ["/from_node"])
    assert "'latr'" in unknown.json()["errors"][0]["detail"]
