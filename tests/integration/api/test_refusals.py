"""Refused requests get a problem that points to the place, and store nothing."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from nats.aio.client import Client

from harness.generators.hand_written_log import HandWrittenLog
from harness.nats.message_counts import stored, taken
from harness.processes.api_process import ApiProcess
from tailrace_shared.nats.jetstream import JetStream
from tailrace_shared.subjects import Subjects

pytestmark = pytest.mark.one_node("requests are refused before NATS is asked")

FLOW = {"nodes": {"a": {"type": "transform", "with": {"value": 1}}}}


def _check(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]
    return problem


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/v1/nothing", 404),
        ("GET", "/api/v1/workflows/", 404),
        ("GET", "/api/v1/workflows/a%2Fb/graph", 404),
        ("POST", "/api/v1/workflows", 405),
        ("PATCH", "/api/v1/workflows/flow", 405),
        ("GET", "/api/v1/executions/stream/", 404),
        ("DELETE", "/api/v1/sse/executions/x/stream", 405),
        ("GET", "/api/v1/workflows/a.b", 400),
        ("GET", "/api/v1/workflows/%3E", 400),
        ("GET", "/api/v1/workflows/flow%0A", 400),
        ("PUT", "/api/v1/workflows/" + "x" * 65, 400),
        ("GET", "/api/v1/executions/a.b", 400),
        ("GET", "/api/v1/executions/a%20b", 400),
        ("GET", "/api/v1/sse/executions/*/stream", 400),
        ("GET", "/api/v1/executions/missing", 404),
        ("GET", "/api/v1/workflows/flow/runs/missing", 404),
        ("GET", "/api/v1/sse/executions/missing/stream", 404),
        ("POST", "/api/v1/executions/missing/cancel", 404),
        ("GET", "/api/v1/executions?limit=0", 400),
        ("GET", "/api/v1/executions?limit=201", 400),
        ("GET", "/api/v1/executions?limit=ten", 400),
        ("GET", "/api/v1/executions?limit=%C2%B2", 400),
        ("GET", "/api/v1/executions?status=done", 400),
        ("GET", "/api/v1/executions?cursor=a.b", 400),
        ("GET", "/api/v1/executions?workflow_id=a.b", 400),
        ("GET", "/api/v1/workflows/flow/runs?limit=-1", 400),
        ("GET", "/api/v1/executions/missing?include_logs=maybe", 400),
    ],
)
async def test_invalid_requests_get_problems(
    http: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    """Unknown routes, methods, ids and parameters."""
    content = json.dumps(FLOW) if method == "PUT" else None
    problem = _check(await http.request(method, path, content=content), status)
    _, _, query = path.partition("?")
    assert query.partition("=")[0] in problem["detail"]


async def test_an_unsupported_method_lists_the_allowed_ones(http: httpx.AsyncClient) -> None:
    """405 with Allow."""
    answer = await http.patch("/api/v1/workflows/flow/runs")
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD", "POST"}


@pytest.mark.parametrize(
    ("content", "status", "place"),
    [
        (b'{"input": {', 400, "line 1, column 12"),
        (b'{"input": NaN}', 400, "NaN"),
        (b'{"input": "\xff"}', 400, "UTF-8"),
        (b'{"input": "\\udead"}', 400, "surrogate"),
        (b"[" * 5000, 400, "nested"),
        (b"[]", 422, "object"),
        (b'"x"', 422, "object"),
    ],
)
async def test_invalid_json_bodies_are_refused(
    http: httpx.AsyncClient, jetstream: JetStream, content: bytes, status: int, place: str
) -> None:
    """400 with the position; 422 for JSON that is not an object."""
    await http.put("/api/v1/workflows/flow", json=FLOW)
    before = await stored(jetstream)
    for path in ("/api/v1/workflows/flow/runs", "/api/v1/executions/stream"):
        problem = _check(await http.post(path, content=content), status)
        assert place in json.dumps(problem)
    assert await taken(jetstream, before) == {}


async def test_wrong_fields_are_reported(http: httpx.AsyncClient, jetstream: JetStream) -> None:
    """422 with a JSON Pointer to each."""
    await http.put("/api/v1/workflows/flow", json=FLOW)
    before = await stored(jetstream)
    for path, content, pointer in [
        ("workflows/flow/runs", b'{"inputs": {}, "input": 1}', "/inputs"),
        ("workflows/flow/runs", b'{"input": {"a": {"b": 1, "b": 2}}}', "/input/a/b"),
        ("executions/stream", b"{}", "/flow_id"),
        ("executions/stream", b'{"flow_id": true}', "/flow_id"),
        ("executions/x/cancel", b'{"reason": 5}', "/reason"),
        ("executions/x/cancel", b'{"why": "so"}', "/why"),
    ]:
        problem = _check(await http.post(f"/api/v1/{path}", content=content), 422)
        assert [error["pointer"] for error in problem["errors"]] == [pointer]
    assert await taken(jetstream, before) == {}


async def test_input_is_checked_against_the_schema(
    http: httpx.AsyncClient, jetstream: JetStream
) -> None:
    """422 with a pointer below /input for each error; nothing is stored."""
    schema = {
        "type": "object",
        "required": ["file"],
        "properties": {"rows": {"type": "array", "items": {"type": "integer"}}},
    }
    await http.put("/api/v1/workflows/flow", json={**FLOW, "input": schema})
    before = await stored(jetstream)
    answer = await http.post(
        "/api/v1/workflows/flow/runs",
        json={"input": {"rows": [1, "two", 3, None]}},
        headers={"idempotency-key": "k"},
    )
    problem = _check(answer, 422)
    assert sorted(error["pointer"] for error in problem["errors"]) == [
        "/input",
        "/input/rows/1",
        "/input/rows/3",
    ]
    answer = await http.post(
        "/api/v1/executions/stream", json={"flow_id": "flow", "input_data": {"rows": 1}}
    )
    assert {error["pointer"] for error in _check(answer, 422)["errors"]} == {
        "/input_data",
        "/input_data/rows",
    }
    assert await taken(jetstream, before) == {}


@pytest.mark.parametrize(
    "schema", [{"$ref": "https://example.com/x.json"}, {"$ref": "#/$defs/x"}, {"$ref": "#"}]
)
async def test_unresolvable_schema_references_refuse_the_input(
    http: httpx.AsyncClient, schema: dict[str, Any]
) -> None:
    """References are not fetched, and cycles end."""
    put = await http.put("/api/v1/workflows/flow", json={**FLOW, "input": schema})
    if put.status_code == 422:
        return
    _check(await http.post("/api/v1/workflows/flow/runs", json={"input": {}}), 422)


async def test_an_input_over_the_limit_is_refused(
    http: httpx.AsyncClient, jetstream: JetStream
) -> None:
    """An event carries at most 256 KiB of input."""
    await http.put("/api/v1/workflows/flow", json=FLOW)
    before = await stored(jetstream)
    answer = await http.post("/api/v1/workflows/flow/runs", json={"input": "x" * 262_143})
    assert "262144" in _check(answer, 422)["detail"]
    assert await taken(jetstream, before) == {}
    fits = await http.post("/api/v1/workflows/flow/runs", json={"input": "x" * 262_142})
    assert fits.status_code == 202


async def test_other_content_types_are_refused(http: httpx.AsyncClient) -> None:
    """415 for a content type other than JSON; a missing one counts as JSON."""
    for content_type in ("text/plain", "multipart/form-data", "application/jsonx"):
        answer = await http.post(
            "/api/v1/workflows/validate", content=b"{}", headers={"content-type": content_type}
        )
        _check(answer, 415)
    for content_type in ("application/json; charset=utf-8", "application/vnd.x+json"):
        answer = await http.post(
            "/api/v1/workflows/validate",
            content=json.dumps({"id": "flow", **FLOW}),
            headers={"content-type": content_type},
        )
        assert answer.status_code == 200


async def test_a_body_over_the_limit_is_refused_before_it_is_read(api: ApiProcess) -> None:
    """Its length decides at once; of a chunked body the first excess byte does."""
    by_length = f"content-length: {2**40}\r\n\r\n".encode()
    chunk = b"x" * 65536
    in_chunks = b"transfer-encoding: chunked\r\n\r\n" + b"".join(
        b"%x\r\n%s\r\n" % (len(chunk), chunk) for _ in range(17)
    )
    for framing in (by_length, in_chunks):
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
        writer.write(b"PUT /api/v1/workflows/flow HTTP/1.1\r\nhost: 127.0.0.1\r\n" + framing)
        answer = await asyncio.wait_for(reader.read(), 60)
        writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 413 ")
        assert b"connection: close" in head
        assert json.loads(body)["status"] == 413
        assert "1048576" in json.loads(body)["detail"]


async def test_idempotency_keys_must_be_printable_and_short(
    http: httpx.AsyncClient, jetstream: JetStream
) -> None:
    """400 for an invalid key."""
    await http.put("/api/v1/workflows/flow", json=FLOW)
    before = await stored(jetstream)
    for key in (b"", b"x" * 256, b"a\tb", "é".encode()):
        answer = await http.post(
            "/api/v1/workflows/flow/runs", json={}, headers={b"idempotency-key": key}
        )
        assert "Idempotency-Key" in _check(answer, 400)["detail"]
    assert await taken(jetstream, before) == {}


async def test_another_tenants_execution_is_not_found(
    http: httpx.AsyncClient, nats_client: Client
) -> None:
    """The same bytes as for an unknown id, on every route."""
    log = HandWrittenLog(nats_client, "other-tenant")
    await log.begin()
    for path in (
        f"executions/{log.execution}",
        f"sse/executions/{log.execution}/stream",
        f"workflows/flow/runs/{log.execution}",
    ):
        theirs = await http.get(f"/api/v1/{path}")
        never = await http.get(f"/api/v1/{path}".replace(log.execution[-4:], "zzzz"))
        _check(theirs, 404)
        assert theirs.content == never.content.replace(b"zzzz", log.execution[-4:].encode())
    _check(await http.post(f"/api/v1/executions/{log.execution}/cancel"), 404)


async def test_malformed_http_gets_a_problem(api: ApiProcess) -> None:
    """The protocol answers before any route or the application is reached."""
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    writer.write(b"HELLO\r\n\r\n")
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"content-type: application/problem+json" in head
    assert json.loads(body)["status"] == 400


async def test_an_internal_error_reveals_no_details(
    http: httpx.AsyncClient, jetstream: JetStream, tenant: str, api: ApiProcess
) -> None:
    """500 as a problem; the log of the API has the traceback."""
    await jetstream.publish(Subjects().log(tenant, "strange"), b"not a commit of ours")
    problem = _check(await http.get("/api/v1/executions/strange"), 500)
    assert "commit" not in problem["detail"]
    assert "DecodeError" in api.log_text


async def test_the_access_log_has_no_query_strings(
    http: httpx.AsyncClient, api: ApiProcess
) -> None:
    """They may contain tokens."""
    await http.get("/api/v1/workflows?Authorization=Bearer%20secret-token&access_token=secret-too")
    assert "/api/v1/workflows" in api.log_text
    assert "secret-to" not in api.log_text
