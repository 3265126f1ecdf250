"""Runs over HTTP: started once, listed and shown."""

import asyncio
from typing import Any

import httpx
import msgspec
import pytest
from nats.aio.client import Client

from harness.generators import hand_written_log as written
from harness.generators.hand_written_log import HandWrittenLog
from harness.nats.message_counts import stored, taken
from harness.nats.server import NatsServer
from harness.processes.in_process_api import api_in_process
from tailrace_shared.execution import events as ev
from tailrace_shared.nats.jetstream import JetStream
from tailrace_shared.stores.execution_log import ExecutionLog
from tailrace_shared.stores.output_store import OutputStore
from tailrace_shared.subjects import Subjects

FLOW = {
    "nodes": {
        "a": {"type": "transform", "with": {"value": 1}, "name": "First"},
        "b": {"type": "transform", "with": {"value": 2}, "needs": ["a"]},
        "c": {"type": "transform", "with": {"value": 3}, "needs": ["a"]},
    }
}


async def test_a_run_is_created_enqueued_and_listed(
    http: httpx.AsyncClient, jetstream: JetStream, tenant: str, version: int
) -> None:
    """202 means that it is in the log, enqueued and indexed."""
    before = await stored(jetstream)
    answer = await http.post("/api/v1/workflows/flow/runs", json={"input": {"x": 1}})
    assert answer.status_code == 202
    run = answer.json()
    execution = run["execution_id"]
    assert run == {
        "execution_id": execution,
        "status": "queued",
        "stream_url": f"/api/v1/sse/executions/{execution}/stream",
    }
    assert answer.headers["location"] == f"/api/v1/workflows/flow/runs/{execution}"
    assert await taken(jetstream, before) == {
        "EVENTS": 1,
        "JOBS": 1,
        "KV_due": 1,
        "KV_live": 1,
        "STARTS": 1,
    }
    job = await jetstream.get("JOBS", {"last_by_subj": "tr.jobs.executions"})
    assert job is not None
    assert msgspec.json.decode(job.data)["args"] == [tenant, execution]
    listed = (await http.get("/api/v1/executions")).json()["runs"]
    assert [(r["execution_id"], r["status"], r["version"]) for r in listed] == [
        (execution, "queued", version)
    ]
    shown = (await http.get(answer.headers["location"])).json()
    assert (shown["status"], shown["input"], shown["version"]) == ("queued", {"x": 1}, version)


async def test_a_run_has_the_defaults_of_its_input_schema(http: httpx.AsyncClient) -> None:
    """A repeated request with the same key finds the same run."""
    schema = {"properties": {"region": {"enum": ["eu", "us"], "default": "eu"}}}
    stored = await http.put("/api/v1/workflows/defaults", json={**FLOW, "input": schema})
    assert stored.status_code in {200, 201}
    path, headers = "/api/v1/workflows/defaults/runs", {"idempotency-key": "k"}
    for _ in range(2):
        answer = await http.post(path, json={"input": {"x": 1}}, headers=headers)
        shown = (await http.get(answer.headers["location"])).json()
        assert shown["input"] == {"x": 1, "region": "eu"}
    kept = await http.post(path, json={"input": {"region": "us"}})
    assert (await http.get(kept.headers["location"])).json()["input"] == {"region": "us"}


@pytest.mark.usefixtures("version")
async def test_an_idempotency_key_deduplicates_runs(
    http: httpx.AsyncClient, jetstream: JetStream
) -> None:
    """A repeated body starts nothing, in any JSON spelling; another body is 422."""
    path, headers = "/api/v1/workflows/flow/runs", {"idempotency-key": "order 1"}
    first = await http.post(path, content='{"input": {"a": 1, "b": 2}}', headers=headers)
    before = await stored(jetstream)
    again = await http.post(path, content='{"input":{"b":2,"a":1}}', headers=headers)
    assert again.json() == first.json()
    # The run is still queued, so its job is published again: harmless, and a repair.
    repair = {"JOBS": 1, "KV_due": 1, "KV_live": 1}
    assert await taken(jetstream, before) == repair
    other = await http.post(path, json={"input": {"a": 1}}, headers=headers)
    assert other.status_code == 422
    assert "idempotency key" in other.json()["detail"]
    await http.put("/api/v1/workflows/flow2", json=FLOW)
    elsewhere = await http.post(
        "/api/v1/workflows/flow2/runs", json={"input": {"a": 1}}, headers=headers
    )
    assert elsewhere.json()["execution_id"] != first.json()["execution_id"]


@pytest.mark.usefixtures("version")
async def test_racing_requests_with_one_key_start_one_run(
    http: httpx.AsyncClient, jetstream: JetStream
) -> None:
    """However many arrive at once."""
    before = await stored(jetstream)
    answers = await asyncio.gather(
        *(
            http.post(
                "/api/v1/workflows/flow/runs", json={"input": 1}, headers={"idempotency-key": "k"}
            )
            for _ in range(20)
        )
    )
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["execution_id"] for answer in answers}) == 1
    assert (await taken(jetstream, before))["EVENTS"] == 1


async def test_a_repeated_request_completes_an_interrupted_one(
    http: httpx.AsyncClient, jetstream: JetStream, tenant: str, version: int
) -> None:
    """The key was stored and nothing else; the second request does the rest."""
    body = {"input": {"x": 1}}
    headers = {"idempotency-key": "k"}
    first = (await http.post("/api/v1/workflows/flow/runs", json=body, headers=headers)).json()
    subject = Subjects().log(tenant, first["execution_id"])
    await jetstream.api("STREAM.PURGE.EVENTS", {"filter": subject})
    # Even if the workflow has changed and would now refuse the input.
    await http.put("/api/v1/workflows/flow", json={**FLOW, "input": {"type": "string"}})
    again = await http.post("/api/v1/workflows/flow/runs", json=body, headers=headers)
    assert again.json() == first
    history = await ExecutionLog(jetstream, Subjects()).load(tenant, first["execution_id"])
    assert (history.state.version, history.state.input) == (version, {"x": 1})


@pytest.mark.usefixtures("version")
async def test_pages_of_runs_go_from_new_to_old(http: httpx.AsyncClient) -> None:
    """Cursors visit every run once, by workflow and by status."""
    await http.put("/api/v1/workflows/other", json=FLOW)
    started = []
    for number in range(7):
        workflow = "other" if number == 3 else "flow"
        answer = await http.post(f"/api/v1/workflows/{workflow}/runs", json={})
        started.append(answer.json()["execution_id"])
    seen, cursor = [], None
    while True:
        params = {"limit": 3, **({"cursor": cursor} if cursor else {})}
        page = (await http.get("/api/v1/executions", params=params)).json()
        seen += [run["execution_id"] for run in page["runs"]]
        assert len(page["runs"]) <= 3
        if (cursor := page["cursor"]) is None:
            break
    assert seen == started[::-1]
    of_other = (await http.get("/api/v1/workflows/other/runs")).json()["runs"]
    assert [run["execution_id"] for run in of_other] == [started[3]]
    same = (await http.get("/api/v1/executions", params={"workflow_id": "other"})).json()["runs"]
    assert same == of_other
    none = (await http.get("/api/v1/executions", params={"status": "failed"})).json()
    assert none == {"runs": [], "cursor": None}


async def test_the_run_document_matches_the_log(
    http: httpx.AsyncClient, nats_client: Client, tenant: str, version: int
) -> None:
    """Every step in definition order, pending ones included; every event with its id."""
    log = HandWrittenLog(nats_client, tenant)
    await log.begin("flow", version, {"x": 1})
    await log.step("a", {"n": 1})
    await log.commit(written.step_started("c"))
    path = f"/api/v1/workflows/flow/runs/{log.execution}"
    run = (await http.get(path, params={"include_logs": "true"})).json()
    logs = run.pop("logs")
    assert [(entry["type"], *_place(entry["id"])) for entry in logs] == log.written
    steps = {step["node_id"]: step for step in run.pop("steps")}
    assert list(steps) == ["a", "b", "c"]
    assert [step["status"] for step in steps.values()] == ["success", "pending", "running"]
    assert steps["a"] == {
        "node_id": "a",
        "node_type": "transform",
        "name": "First",
        "status": "success",
        "attempt": 1,
        "started_at": written.NOW,
        "completed_at": written.NOW,
        "duration_ms": 5,
        "output": {"n": 1},
        "error": None,
        "waiting_for": None,
    }
    # One of them has run for years, so the estimate must not say that it is about to end.
    assert run.pop("eta_ms") > 86_400_000
    assert run == {
        "execution_id": log.execution,
        "workflow_id": "flow",
        "version": version,
        "status": "running",
        "input": {"x": 1},
        "output": None,
        "error": None,
        "created_at": written.NOW,
        "started_at": written.NOW,
        "finished_at": None,
        "duration_ms": None,
        "progress": 33.3,
        "parent": None,
        "rerun_of": None,
        "tags": [],
    }
    assert "logs" not in (await http.get(f"/api/v1/executions/{log.execution}")).json()
    elsewhere = await http.get(f"/api/v1/workflows/another/runs/{log.execution}")
    assert elsewhere.status_code == 404


async def test_an_output_omitted_from_the_last_event_is_rebuilt(
    http: httpx.AsyncClient, nats_client: Client, tenant: str, version: int
) -> None:
    """The document takes the outputs of the leaves, by node id."""
    log = HandWrittenLog(nats_client, tenant)
    await log.begin("flow", version)
    for node in "abc":
        await log.step(node, f"out of {node}")
    end = ev.Completed(log.execution, "completed", 60, output_omitted=True)
    await log.commit(ev.ExecutionCompleted(end, written.NOW))
    run = (await http.get(f"/api/v1/executions/{log.execution}")).json()
    assert run["output"] == {"b": "out of b", "c": "out of c"}
    assert (run["progress"], run["eta_ms"], run["duration_ms"]) == (100.0, 0, 60)


MAPPED = {
    "nodes": {
        "pages": {
            "type": "map",
            "name": "Pages",
            "with": {
                "for_each": "input.pages",
                "do": {"type": "transform", "with": {"value": "${item}"}},
            },
        },
        "last": {"type": "transform", "with": {"value": 1}, "needs": ["pages"]},
    },
    "output": {"pages": "${nodes.pages.output}"},
}


async def _mapped(
    http: httpx.AsyncClient, client: Client, tenant: str, items: int
) -> HandWrittenLog:
    """Return an execution whose map has evaluated its items."""
    put = await http.put("/api/v1/workflows/mapped", json=MAPPED)
    log = HandWrittenLog(client, tenant)
    await log.begin("mapped", put.json()["version"])
    expansion = ev.StepExpansion("pages", "map", "running", list(range(items)))
    await log.commit(written.step_started("pages", "map"), ev.StepExpanded(expansion, written.NOW))
    return log


async def test_the_items_of_a_map_come_after_it(
    http: httpx.AsyncClient, nats_client: Client, tenant: str
) -> None:
    """Each as a step; they determine the progress of the run."""
    log = await _mapped(http, nats_client, tenant, 4)
    await log.step("pages[0]", "zero")
    await log.commit(written.step_started("pages[2]"))
    run = (await http.get(f"/api/v1/executions/{log.execution}")).json()
    assert [(step["node_id"], step["name"], step["status"]) for step in run["steps"]] == [
        ("pages", "Pages", "running"),
        ("pages[0]", "Pages[0]", "success"),
        ("pages[1]", "Pages[1]", "pending"),
        ("pages[2]", "Pages[2]", "running"),
        ("pages[3]", "Pages[3]", "pending"),
        ("last", "last", "pending"),
    ]
    assert [step.get("items") for step in run["steps"]] == [4, *[None] * 5]
    assert run["steps"][1]["node_type"] == "transform"
    assert run["progress"] == 12.5


async def test_only_active_items_of_a_large_map_are_shown(
    http: httpx.AsyncClient, nats_client: Client, tenant: str
) -> None:
    """A hundred thousand pending steps would carry no information."""
    log = await _mapped(http, nats_client, tenant, 30_000)
    await log.step("pages[29999]", "last")
    run = (await http.get(f"/api/v1/executions/{log.execution}")).json()
    assert (len(run["steps"]), run["steps"][0]["items"]) == (1003, 30_000)
    assert run["steps"][-2]["node_id"] == "pages[29999]"


async def test_referenced_outputs_are_fetched(
    http: httpx.AsyncClient, nats_client: Client, jetstream: JetStream, tenant: str
) -> None:
    """Into their steps, into the map, and into the output of the run."""
    log = await _mapped(http, nats_client, tenant, 2)
    large = "x" * 400_000
    outputs = OutputStore(jetstream, Subjects(), max_bytes=10**7)
    encoded = msgspec.json.encode(large)
    reference = await outputs.put(tenant, log.execution, "pages[0]", 1, encoded)
    await log.commit(written.step_started("pages[0]"))
    await log.commit(_completed("pages[0]", output_ref=reference))
    await log.step("pages[1]", "small")
    await log.commit(_completed("pages", "map", output_omitted=True))
    await log.step("last", 1)
    end = ev.Completed(log.execution, "completed", 60, output_omitted=True)
    await log.commit(ev.ExecutionCompleted(end, written.NOW))
    run = (await http.get(f"/api/v1/executions/{log.execution}")).json()
    assert run["output"] == {"pages": [large, "small"]}
    assert [step["output"] for step in run["steps"]] == [[large, "small"], large, "small", 1]
    path = f"/api/v1/executions/{log.execution}/steps"
    assert (await http.get(f"{path}/pages[0]/output")).json() == large
    assert (await http.get(f"{path}/pages/output")).json() == [large, "small"]
    for nothing in ("gone", "pages[7]"):
        assert (await http.get(f"{path}/{nothing}/output")).status_code == 404


async def test_the_input_of_a_step_can_be_read_alone(
    http: httpx.AsyncClient, nats_client: Client, tenant: str, version: int
) -> None:
    log = HandWrittenLog(nats_client, tenant)
    await log.begin("flow", version)
    await log.step("a")
    path = f"/api/v1/executions/{log.execution}/steps/a"
    details = (await http.get(path)).json()
    assert details["input"] is not None
    assert (await http.get(f"{path}/input")).json() == {"input": details["input"]}
    assert (await http.get(f"{path}x/input")).status_code == 404


async def test_a_document_links_to_outputs_beyond_its_limit(
    http: httpx.AsyncClient, nats_client: Client, tenant: str, version: int
) -> None:
    """A link has a path and a size; an expired output does not affect the others."""
    log = HandWrittenLog(nats_client, tenant)
    await log.begin("flow", version)
    await log.commit(written.step_started("a"), written.step_started("b"))
    huge = ev.OutputRef(f"{tenant}.{log.execution}.huge", 10**9)
    gone = ev.OutputRef(f"{tenant}.{log.execution}.gone", 1000)
    await log.commit(_completed("a", output_ref=huge), _completed("b", output_ref=gone))
    run = (await http.get(f"/api/v1/executions/{log.execution}")).json()
    href = f"/api/v1/executions/{log.execution}/steps/a/output"
    assert run["steps"][0]["output"] is None
    assert run["steps"][0]["output_ref"] == {"bytes": 10**9, "href": href}
    assert run["steps"][1]["output"] is None
    assert (await http.get(href)).status_code == 413
    assert (await http.get(href.replace("/a/", "/b/"))).status_code == 404


async def test_a_child_run_names_its_parent(
    http: httpx.AsyncClient, nats_client: Client, tenant: str, version: int
) -> None:
    """The parent's step names the child that it waits for."""
    parent, child = HandWrittenLog(nats_client, tenant), HandWrittenLog(nats_client, tenant)
    await parent.begin("flow", version)
    waiting = ev.StepWait(
        *("a", "workflow", "waiting"),
        wait="child",
        child_execution_id=child.execution,
        child_workflow_id="flow",
    )
    await parent.commit(written.step_started("a", "workflow"), ev.StepWaiting(waiting, written.NOW))
    queued = ev.Queued(child.execution, "flow", "flow", version, {}, "queued", depth=1)
    queued.parent = ev.Parent(parent.execution, "a")
    await child.commit(ev.ExecutionQueued(queued, written.NOW))
    shown = (await http.get(f"/api/v1/executions/{child.execution}")).json()
    assert shown["parent"] == {"execution_id": parent.execution, "node_id": "a"}
    above = (await http.get(f"/api/v1/executions/{parent.execution}")).json()
    assert above["steps"][0]["waiting_for"] == {
        "kind": "child",
        "child_execution_id": child.execution,
        "child_workflow_id": "flow",
    }


def _completed(node: str, node_type: str = "transform", **fields: Any) -> ev.StepCompleted:
    done = ev.StepDone(node, node_type, "success", 1, written.NOW, written.NOW, 5, None, **fields)
    return ev.StepCompleted(done, written.NOW)


def _place(event_id: str) -> tuple[int, int]:
    _, sequence, index = event_id.split("-")
    return int(sequence), int(index)


async def test_a_run_that_a_replica_lacks_is_found(
    idle_nats: NatsServer, log: HandWrittenLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page is read from any replica. One that lags does not know yet what was accepted."""
    await log.commit(written.queued(log.execution))
    batch, answers = JetStream.batch, list[object]()

    async def lag(jetstream: JetStream, *request: Any) -> Any:
        answers.append(([], 0) if not answers else await batch(jetstream, *request))
        return answers[-1]

    async with api_in_process(idle_nats.url) as api, httpx.AsyncClient() as client:
        monkeypatch.setattr(JetStream, "batch", lag)
        url = f"http://127.0.0.1:{api.port}/api/v1/executions/"
        headers = {"x-organization-id": log.tenant}
        found = await client.get(url + log.execution, headers=headers)
        assert (found.status_code, len(answers)) == (200, 2)
        assert (await client.get(url + "missing", headers=headers)).status_code == 404
