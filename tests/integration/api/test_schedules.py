"""Schedules over HTTP: stored, shown, listed and deleted. No worker takes their jobs here."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from harness.nats.message_counts import stored, taken
from tailrace_shared.nats.jetstream import JetStream

FLOW = {
    "nodes": {"a": {"type": "transform", "with": {"value": 1}}},
    "input": {"type": "object", "properties": {"n": {"type": "integer"}}},
}
URL = "/api/v1/schedules"
YEARLY = {"workflow_id": "flow", "cron": "0 30 4 1 1 *"}


@pytest.fixture(autouse=True)
async def flow(http: httpx.AsyncClient) -> None:
    """A workflow with an input."""
    await http.put("/api/v1/workflows/flow", json=FLOW)


async def test_a_schedule_is_posted_read_listed_and_deleted(http: httpx.AsyncClient) -> None:
    """Its document is the same everywhere."""
    body = {**YEARLY, "id": "new-year", "time_zone": "Europe/Vienna", "input": {"n": 1}}
    began = datetime.now(UTC)
    posted = await http.post(URL, json=body)
    assert posted.status_code == 201
    assert posted.headers["location"] == f"{URL}/new-year"
    document = posted.json()
    assert {key: document[key] for key in body} == body
    assert document["next_at"].endswith("-01-01T03:30:00.000Z")
    created_at, moment = datetime.fromisoformat(document["created_at"]), timedelta(seconds=1)
    assert began - moment < created_at < datetime.now(UTC) + moment
    assert (await http.get(f"{URL}/new-year")).json() == document
    assert (await http.get(URL)).json() == {"schedules": [document], "cursor": None}
    deleted = await http.delete(f"{URL}/new-year")
    assert (deleted.status_code, deleted.content) == (204, b"")
    for method in ("GET", "DELETE"):
        assert (await http.request(method, f"{URL}/new-year")).status_code == 404
    assert (await http.get(URL)).json() == {"schedules": [], "cursor": None}


async def test_optional_fields_have_defaults(http: httpx.AsyncClient) -> None:
    """A generated id and an empty input; the next start of an interval is unknown."""
    body = {"workflow_id": "flow", "cron": " @every   24h ", "id": None, "time_zone": None}
    document = (await http.post(URL, json=body)).json()
    assert document["id"]
    assert document["cron"] == "@every 24h"
    assert (document["input"], document["time_zone"], document["next_at"]) == ({}, None, None)
    other = (await http.post(URL, json=body)).json()
    assert other["id"] != document["id"]


async def test_a_schedule_shows_the_cron_line_that_was_given(http: httpx.AsyncClient) -> None:
    """NATS has one with seconds."""
    for cron in ("30 4 1 1 *", "0 30 4 1 1 *", "@yearly"):
        document = (await http.post(URL, json={**YEARLY, "id": "s", "cron": cron})).json()
        (listed,) = (await http.get(URL)).json()["schedules"]
        assert document["cron"] == listed["cron"] == cron
        assert document["next_at"] is not None


async def test_a_schedule_replaces_the_one_with_its_id(http: httpx.AsyncClient) -> None:
    """200 instead of 201."""
    body = {**YEARLY, "id": "s"}
    assert (await http.post(URL, json=body)).status_code == 201
    assert (await http.post(URL, json={**body, "cron": "@daily"})).status_code == 200
    (found,) = (await http.get(URL)).json()["schedules"]
    assert found["cron"] == "@daily"


async def test_schedules_are_listed_in_pages(http: httpx.AsyncClient) -> None:
    """Pages are ordered by id; all but the last have a cursor."""
    for name in "cab":
        await http.post(URL, json={**YEARLY, "id": name})
    first = (await http.get(f"{URL}?limit=2")).json()
    rest = (await http.get(f"{URL}?limit=2&cursor={first['cursor']}")).json()
    assert [found["id"] for found in first["schedules"]] == ["a", "b"]
    assert [found["id"] for found in rest["schedules"]] == ["c"]
    assert rest["cursor"] is None


async def test_another_tenants_schedule_is_not_found(http: httpx.AsyncClient, tenant: str) -> None:
    """The same bytes, and it is not deleted."""
    theirs = {"x-organization-id": f"{tenant}-2"}
    await http.put("/api/v1/workflows/flow", json=FLOW, headers=theirs)
    await http.post(URL, json={**YEARLY, "id": "theirs"}, headers=theirs)
    for method in ("GET", "DELETE"):
        other = await http.request(method, f"{URL}/theirs")
        never = await http.request(method, f"{URL}/never1")
        assert (other.status_code, never.status_code) == (404, 404)
        assert other.content == never.content.replace(b"never1", b"theirs")
    assert (await http.get(URL)).json()["schedules"] == []
    assert (await http.get(f"{URL}/theirs", headers=theirs)).status_code == 200


@pytest.mark.parametrize(
    ("fields", "pointers"),
    [
        ({"workflow_id": None}, ["/workflow_id"]),
        ({"workflow_id": "nothing"}, ["/workflow_id"]),
        ({"workflow_id": "a.b"}, ["/workflow_id"]),
        ({"workflow_id": 7}, ["/workflow_id"]),
        ({"input": {"n": "one"}}, ["/input/n"]),
        ({"input": None}, ["/input"]),
        ({"input": "x" * 262_144}, ["/input"]),
        ({"id": "a.b"}, ["/id"]),
        ({"id": ""}, ["/id"]),
        ({"id": 7}, ["/id"]),
        ({"cron": None}, ["/cron"]),
        ({"cron": 5}, ["/cron"]),
        ({"cron": ""}, ["/cron"]),
        ({"cron": "* * * *"}, ["/cron"]),
        ({"cron": "0 60 * * * *"}, ["/cron"]),
        ({"cron": "0 0 0 30 2 *"}, ["/cron"]),
        ({"cron": "0 0 0 1 1 *\r\nNats-Rollup: all"}, ["/cron"]),
        ({"cron": "@every 999ms"}, ["/cron"]),
        ({"cron": "@every 1d"}, ["/cron"]),
        ({"cron": "@sometimes"}, ["/cron"]),
        ({"cron": "@at 2030-01-01T00:00:00Z"}, ["/cron"]),
        ({"time_zone": "Nowhere/Land"}, ["/time_zone"]),
        ({"time_zone": "Local"}, ["/time_zone"]),
        ({"time_zone": "UTC\r\nNats-Rollup: all"}, ["/time_zone"]),
        ({"time_zone": ""}, ["/time_zone"]),
        ({"time_zone": 1}, ["/time_zone"]),
        ({"cron": "@every 5m", "time_zone": "UTC"}, ["/time_zone"]),
        ({"crom": "x"}, ["/crom"]),
        (
            {"id": "!", "cron": "x", "workflow_id": "no", "time_zone": "?", "more": 1},
            ["/cron", "/id", "/more", "/time_zone", "/workflow_id"],
        ),
    ],
)
async def test_errors_are_reported_and_nothing_is_stored(
    http: httpx.AsyncClient, jetstream: JetStream, fields: dict[str, Any], pointers: list[str]
) -> None:
    """422 with a JSON Pointer and a sentence for each."""
    before = await stored(jetstream)
    answer = await http.post(URL, json={**YEARLY, **fields})
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    errors = answer.json()["errors"]
    assert sorted(error["pointer"] for error in errors) == pointers
    assert all(error["detail"] for error in errors)
    assert await taken(jetstream, before) == {}


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        ("POST", "", b"{", 400),
        ("POST", "", b"[]", 422),
        ("POST", "", b"", 400),
        ("PUT", "", b"{}", 405),
        ("PUT", "/x", b"{}", 405),
        ("GET", "/a.b", b"", 400),
        ("DELETE", "/%3E", b"", 400),
        ("GET", "/nothing", b"", 404),
        ("DELETE", "/nothing", b"", 404),
        ("GET", "?limit=0", b"", 400),
        ("GET", "?limit=201", b"", 400),
        ("GET", "?cursor=*", b"", 400),
    ],
)
async def test_invalid_requests_get_problems(
    http: httpx.AsyncClient, method: str, path: str, content: bytes, status: int
) -> None:
    """Each is a problem document."""
    answer = await http.request(method, URL + path, content=content)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


async def test_concurrent_schedules_are_all_stored(http: httpx.AsyncClient) -> None:
    """Many are posted at once."""
    posts = [http.post(URL, json={**YEARLY, "id": f"s{number}"}) for number in range(20)]
    assert {answer.status_code for answer in await asyncio.gather(*posts)} == {201}
    assert len(json.loads((await http.get(URL)).content)["schedules"]) == 20


async def test_a_definition_brings_its_schedules(http: httpx.AsyncClient) -> None:
    """They are installed, changed and removed together with it."""
    nightly = {"id": "nightly", "cron": "0 2 * * *", "time_zone": "UTC", "overlap": "skip"}
    often = {"id": "often", "every": "90m", "input": {"n": 2}}
    flow = {**FLOW, "schedules": [nightly, often]}
    assert (await http.put("/api/v1/workflows/flow", json=flow)).status_code == 200
    first, second = (await http.get(URL)).json()["schedules"]
    assert (first["id"], first["cron"], first["overlap"]) == ("nightly", "0 2 * * *", "skip")
    assert (second["cron"], second["input"]) == ("@every 5400000ms", {"n": 2})
    again = await http.put("/api/v1/workflows/flow", json=flow)
    assert again.status_code == 200
    assert (await http.get(URL)).json()["schedules"] == [first, second]
    await http.put("/api/v1/workflows/flow", json={**FLOW, "schedules": [often]})
    assert [found["id"] for found in (await http.get(URL)).json()["schedules"]] == ["often"]
    await http.delete("/api/v1/workflows/flow")
    assert (await http.get(URL)).json()["schedules"] == []


async def test_a_definition_with_wrong_schedules_is_refused_as_a_whole(
    http: httpx.AsyncClient,
) -> None:
    """An input that the workflow does not accept, and an id of another workflow's schedule."""
    await http.put("/api/v1/workflows/other", json=FLOW)
    await http.post(URL, json={**YEARLY, "workflow_id": "other", "id": "taken"})
    schedules = [
        {"id": "taken", "cron": "@daily"},
        {"id": "wrong", "cron": "@daily", "input": {"n": "many"}},
    ]
    answer = await http.put("/api/v1/workflows/flow", json={**FLOW, "schedules": schedules})
    assert answer.status_code == 422
    problems = answer.json()["errors"]
    assert [problem["pointer"] for problem in problems] == [
        "/schedules/0/id",
        "/schedules/1/input/n",
    ]
    assert "schedules" not in (await http.get("/api/v1/workflows/flow")).json()["definition"]


async def test_a_paused_schedule_shows_no_next_start(
    http: httpx.AsyncClient, jetstream: JetStream, tenant: str
) -> None:
    """Its pattern and time zone return when it is resumed."""
    body = {**YEARLY, "id": "s", "time_zone": "Europe/Vienna", "input": {"n": 1}}
    active = (await http.post(URL, json=body)).json()
    assert (active["paused"], active["last_at"], active["last_execution_id"]) == (False, None, None)
    paused = active | {"paused": True, "next_at": None}
    for _ in range(2):
        assert (await http.post(f"{URL}/s/pause")).json() == paused
    assert (await http.get(URL)).json()["schedules"] == [paused]
    stored_as = await jetstream.get_newest("JOBS", {"last_by_subj": f"tr.jobs.starts.{tenant}.s"})
    assert stored_as is not None
    assert "Nats-Schedule" not in stored_as.headers
    for _ in range(2):
        assert (await http.post(f"{URL}/s/resume")).json() == active
    for command in ("pause", "resume", "run"):
        assert (await http.post(f"{URL}/nothing/{command}")).status_code == 404


async def test_a_pause_outlasts_a_new_version_of_the_definition(http: httpx.AsyncClient) -> None:
    """The new version changes the pattern."""
    for cron in ("0 2 * * *", "0 3 * * *"):
        flow = {**FLOW, "schedules": [{"id": "nightly", "cron": cron}]}
        assert (await http.put("/api/v1/workflows/flow", json=flow)).is_success
        await http.post(f"{URL}/nightly/pause")
    shown = (await http.get(f"{URL}/nightly")).json()
    assert (shown["cron"], shown["paused"]) == ("0 3 * * *", True)


async def test_a_schedule_is_run_now_once_for_a_key(http: httpx.AsyncClient) -> None:
    """Also while it is paused, with its input and as a run of the schedule."""
    await http.post(URL, json={**YEARLY, "id": "s", "input": {"n": 7}, "overlap": "queue"})
    await http.post(f"{URL}/s/pause")
    first, again = [
        await http.post(f"{URL}/s/run", headers={"idempotency-key": "k"}) for _ in range(2)
    ]
    assert first.status_code == 202
    assert first.json()["execution_id"] == again.json()["execution_id"]
    run = (await http.get(first.headers["location"])).json()
    assert (run["schedule"], run["input"]) == ("s", {"n": 7})
    assert run["scheduled_at"] is not None


async def test_a_range_is_backfilled_once(http: httpx.AsyncClient) -> None:
    """A firing at the beginning counts, one at the end does not. A dry run starts nothing."""
    body = {**YEARLY, "id": "s", "cron": "0 0 2 * * *", "time_zone": "Europe/Vienna"}
    await http.post(URL, json=body)
    span = {"start": "2026-03-01T01:00:00Z", "end": "2026-03-04T02:00:00+01:00"}
    times = [f"2026-03-0{day}T01:00:00.000Z" for day in (1, 2, 3)]
    listed = (await http.post(f"{URL}/s/backfill", json={**span, "dry_run": True})).json()
    empty = [{"scheduled_at": at, "execution_id": None, "error": None} for at in times]
    assert listed == {"dry_run": True, "firings": empty}
    first, again = [(await http.post(f"{URL}/s/backfill", json=span)).json() for _ in range(2)]
    assert first == again
    runs = [
        (await http.get(f"/api/v1/executions/{row['execution_id']}")).json()
        for row in first["firings"]
    ]
    assert [run["scheduled_at"] for run in runs] == times


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"start": "2026-03-01T00:00:00Z"}, "/end"),
        ({"start": "monday", "end": "2026-03-01T00:00:00Z"}, "/start"),
        ({"start": "2026-03-01T00:00:00Z", "end": "2026-03-01T00:00:00Z"}, "/end"),
        ({"start": "2026-03-01T00:00:00Z", "end": "2326-03-01T00:00:00Z"}, "/end"),
        ({"start": "2026-03-01T00:00:00Z", "end": "2026-03-02T00:00:00Z", "to": 1}, "/to"),
    ],
)
async def test_a_backfill_with_an_invalid_range_is_refused(
    http: httpx.AsyncClient, body: dict[str, Any], pointer: str
) -> None:
    """A hundred firings are the limit."""
    await http.post(URL, json={**YEARLY, "id": "s", "cron": "@hourly"})
    answer = await http.post(f"{URL}/s/backfill", json=body)
    assert answer.status_code == 422
    assert [problem["pointer"] for problem in answer.json()["errors"]] == [pointer]
