"""Commands to all runs that match a filter."""

from typing import Any

import httpx
import pytest
from nats.aio.client import Client

from harness.generators import hand_written_log as written
from harness.generators.hand_written_log import HandWrittenLog
from tailrace_shared.nats.jetstream import JetStream
from tailrace_shared.stores.execution_log import ExecutionLog
from tailrace_shared.subjects import Subjects

FLOW: dict[str, Any] = {"nodes": {"a": {"type": "transform", "with": {"value": 1}}}}
CANCEL, RERUN = "/api/v1/executions/cancel", "/api/v1/executions/rerun"


pytestmark = pytest.mark.usefixtures("version")


async def started(http: httpx.AsyncClient, count: int, **fields: Any) -> list[str]:
    """Start runs, which no worker executes; return their ids, newest first."""
    runs = [await http.post("/api/v1/workflows/flow/runs", json=fields) for _ in range(count)]
    return [run.json()["execution_id"] for run in reversed(runs)]


def rows(answer: httpx.Response) -> list[tuple[str, str | None]]:
    """Return the runs of an answer, and why they were refused."""
    assert answer.status_code == 200, answer.text
    return [(row["execution_id"], row["error"]) for row in answer.json()["executions"]]


async def test_all_runs_with_a_tag_are_cancelled(http: httpx.AsyncClient) -> None:
    """A dry run only lists them. A limit leaves the others to the next request."""
    tagged = await started(http, 3, tags=["wrong"])
    other = await started(http, 1)
    matching = {"filter": {"tag": "wrong"}, "reason": "a mistake"}

    listed = await http.post(CANCEL, json={**matching, "dry_run": True, "limit": 2})
    assert rows(listed) == [(run, None) for run in tagged[:2]]
    assert (listed.json()["dry_run"], listed.json()["more"]) == (True, True)

    done = await http.post(CANCEL, json=matching)
    assert rows(done) == [(run, None) for run in tagged]
    assert (done.json()["more"], done.json()["cursor"]) == (False, None)
    for run, expected in ((tagged[0], 1), (other[0], 0)):
        shown = await http.get(f"/api/v1/executions/{run}", params={"include_logs": "true"})
        commands = [log for log in shown.json()["logs"] if log["type"] == "command:requested"]
        assert len(commands) == expected


async def test_ended_runs_are_run_again_once_for_a_key(
    http: httpx.AsyncClient, nats_client: Client, tenant: str
) -> None:
    """Those that have not ended are not; neither is one whose input the version refuses."""
    reader = ExecutionLog(JetStream(nats_client), Subjects())
    for run in await started(http, 2):
        log = HandWrittenLog(nats_client, tenant, run)
        log.last = (await reader.load(tenant, run)).last_sequence
        await log.commit(written.started(run), written.completed(run))
    await started(http, 1)
    body = {"filter": {"workflow_id": "flow", "status": "completed"}, "failed": True}

    listed = await http.post(RERUN, json={**body, "dry_run": True})
    assert [error for _run, error in rows(listed)] == [None, None]
    first, again = [
        await http.post(RERUN, json=body, headers={"idempotency-key": "k"}) for _ in range(2)
    ]
    assert [row["rerun"] for row in first.json()["executions"]] == [
        row["rerun"] for row in again.json()["executions"]
    ]
    new = first.json()["executions"][0]
    shown = (await http.get(f"/api/v1/executions/{new['rerun']}")).json()
    assert (shown["rerun_of"], shown["failed_only"]) == (new["execution_id"], True)

    stricter = {**FLOW, "input": {"type": "object", "required": ["x"]}}
    await http.put("/api/v1/workflows/flow", json=stricter)
    for dry_run in (True, False):
        refused = await http.post(RERUN, json={**body, "version": "latest", "dry_run": dry_run})
        assert all("/input" in (error or "") for _run, error in rows(refused))


@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [
        (CANCEL, {}, "/filter"),
        (CANCEL, {"filter": {"state": "running"}}, "/filter/state"),
        (CANCEL, {"filter": {"status": "failed"}}, "/filter/status"),
        (RERUN, {"filter": {"status": "running"}}, "/filter/status"),
        (RERUN, {"filter": {"created_after": "yesterday"}}, "/filter/created_after"),
        (RERUN, {"filter": {"tag": "a b"}}, "/filter/tag"),
        (RERUN, {"filter": {}, "limit": 0}, "/limit"),
        (RERUN, {"filter": {}, "version": "newest"}, "/version"),
        (RERUN, {"filter": {}, "failed": 1}, "/failed"),
        (RERUN, {"filter": {}, "cursor": "a b"}, "/cursor"),
    ],
)
async def test_an_invalid_field_is_named(
    http: httpx.AsyncClient, path: str, body: dict[str, Any], pointer: str
) -> None:
    """With its pointer."""
    answer = await http.post(path, json=body)
    assert answer.status_code == 422
    assert [problem["pointer"] for problem in answer.json()["errors"]] == [pointer]
