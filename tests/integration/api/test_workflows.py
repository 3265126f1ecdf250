"""Definitions over HTTP: stored, versioned and drawn; all errors are reported at once."""

import asyncio
import json
from typing import Any

import httpx
import jsonschema_rs

from harness.nats.message_counts import stored, taken
from harness.processes.polling import until
from tailrace_shared.nats.jetstream import JetStream
from tailrace_shared.stores.node_type_store import NodeTypeStore
from tailrace_shared.subjects import Subjects
from tailrace_shared.workflow.node_types import SHIPPED, NodeType, Parameter

LINE = {
    "name": "Two in a row",
    "tags": ["pairs"],
    "nodes": {
        "a": {"type": "transform", "with": {"value": 1}, "stage": "first"},
        "b": {"type": "transform", "with": {"value": "${nodes.a.output}"}, "needs": ["a"]},
    },
}


async def test_a_definition_is_stored_and_returned(http: httpx.AsyncClient) -> None:
    """PUT creates, GET returns it with its version; the list has it."""
    put = await http.put("/api/v1/workflows/line", json=LINE)
    assert put.status_code == 201
    assert put.headers["location"] == "/api/v1/workflows/line"
    version = put.json()["version"]
    assert put.headers["etag"] == f'"{version}"'
    got = await http.get("/api/v1/workflows/line")
    assert got.json() == {
        "workflow_id": "line",
        "version": version,
        "name": "Two in a row",
        "definition": {"id": "line", **LINE},
    }
    listed = await http.get("/api/v1/workflows")
    summary = {"workflow_id": "line", "version": version, "name": "Two in a row"}
    assert listed.json() == {"workflows": [{**summary, "tags": ["pairs"]}]}


async def test_versions_follow_changes_only(http: httpx.AsyncClient, jetstream: JetStream) -> None:
    """The same content keeps its version and is not written; other content creates one."""
    first = (await http.put("/api/v1/workflows/line", json=LINE)).json()["version"]
    before = await stored(jetstream)
    again = await http.put("/api/v1/workflows/line", json={**LINE, "id": "line"})
    assert (again.status_code, again.json()["version"]) == (200, first)
    assert await taken(jetstream, before) == {}
    changed = await http.put("/api/v1/workflows/line", json={**LINE, "name": "Other"})
    assert changed.status_code == 200
    second = changed.json()["version"]
    assert second > first
    old = await http.get("/api/v1/workflows/line", params={"version": first})
    assert old.json()["name"] == "Two in a row"
    assert (await http.get("/api/v1/workflows/line")).json()["version"] == second
    missing = await http.get("/api/v1/workflows/line", params={"version": second + 1000})
    assert missing.status_code == 404
    for wrong in ("0", "-1", "x", "1.5", "9" * 30, "²"):
        answer = await http.get("/api/v1/workflows/line", params={"version": wrong})
        assert answer.status_code == 400, wrong
        assert "version" in answer.json()["detail"]


async def test_a_deleted_workflow_is_gone_until_it_is_stored_again(http: httpx.AsyncClient) -> None:
    """DELETE, then 404 everywhere, then PUT creates it again."""
    await http.put("/api/v1/workflows/line", json=LINE)
    assert (await http.delete("/api/v1/workflows/line")).status_code == 204
    for answer in (
        await http.get("/api/v1/workflows/line"),
        await http.get("/api/v1/workflows/line/graph"),
        await http.delete("/api/v1/workflows/line"),
        await http.post("/api/v1/workflows/line/runs", json={}),
    ):
        assert answer.status_code == 404
    assert (await http.get("/api/v1/workflows")).json() == {"workflows": []}
    assert (await http.put("/api/v1/workflows/line", json=LINE)).status_code == 201


async def test_a_graph_has_nodes_edges_and_layers(http: httpx.AsyncClient) -> None:
    """The layers are topological."""
    await http.put("/api/v1/workflows/line", json=LINE)
    graph = (await http.get("/api/v1/workflows/line/graph")).json()
    assert graph.pop("version") > 0
    assert graph == {
        "workflow_id": "line",
        "nodes": [
            {"id": "a", "type": "transform", "name": "a", "stage": "first"},
            {"id": "b", "type": "transform", "name": "b", "stage": None},
        ],
        "edges": [{"source": "a", "target": "b"}],
        "layers": [["a"], ["b"]],
    }


async def test_all_errors_of_a_definition_are_reported(
    http: httpx.AsyncClient, jetstream: JetStream
) -> None:
    """Unknown type, dangling need, bad CEL, repeated key and wrong id; nothing is stored."""
    before = await stored(jetstream)
    body = """{"id": "other", "nodes": {
        "a": {"type": "transfrom", "needs": ["z"], "needs": ["zz"]},
        "b": {"type": "log", "with": {"message": "x"}, "when": "1 +"}
    }}"""
    for method, path in (("PUT", "line"), ("POST", "validate")):
        answer = await http.request(method, f"/api/v1/workflows/{path}", content=body)
        assert answer.status_code == 422
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert (problem["status"], problem["title"]) == (422, "Unprocessable Entity")
        pointers = {error["pointer"] for error in problem["errors"]}
        assert {"/nodes/a/needs", "/nodes/a/type", "/nodes/a/needs/0", "/nodes/b/when"} <= pointers
        assert ("/id" in pointers) == (method == "PUT")
        assert all(error["detail"] for error in problem["errors"])
    assert await taken(jetstream, before) == {}


async def test_a_definition_can_be_validated_without_storing_it(
    http: httpx.AsyncClient, jetstream: JetStream
) -> None:
    """The validate route stores nothing."""
    before = await stored(jetstream)
    answer = await http.post("/api/v1/workflows/validate", json={"id": "line", **LINE})
    assert answer.json() == {"valid": True, "workflow_id": "line", "nodes": 2}
    assert await taken(jetstream, before) == {}


async def test_ten_thousand_nodes_do_not_delay_other_requests(http: httpx.AsyncClient) -> None:
    """A large definition is validated off the event loop, stored and drawn."""
    nodes = {
        f"n{i}": {"type": "transform", "with": {"value": i}, "needs": [f"n{i - 1}"] if i else []}
        for i in range(10_000)
    }
    definition, answered = json.dumps({"nodes": nodes}), 0
    while answered <= 10:  # repeat if the test itself was delayed
        answered = 0
        put = asyncio.create_task(http.put("/api/v1/workflows/big", content=definition))
        while not put.done():
            assert (await http.get("/healthz")).status_code == 200
            answered += 1
        assert (await put).is_success
    graph = (await http.get("/api/v1/workflows/big/graph")).json()
    assert len(graph["layers"]) == 10_000


async def test_tenants_do_not_see_each_other(http: httpx.AsyncClient) -> None:
    """Another tenant's workflow is not found, by header and by query."""
    await http.put("/api/v1/workflows/line", json=LINE)
    other = {"x-organization-id": "other-tenant"}
    assert (await http.get("/api/v1/workflows/line", headers=other)).status_code == 404
    assert (await http.get("/api/v1/workflows", headers=other)).json() == {"workflows": []}
    mine = http.headers.pop("x-organization-id")
    assert (await http.get("/api/v1/workflows/line")).status_code == 404
    by_query = await http.get("/api/v1/workflows/line", params={"organization_id": mine})
    assert by_query.status_code == 200
    for wrong in ("a.b", "*", ">", "a b", "x" * 65):
        answer = await http.get("/api/v1/workflows", params={"organization_id": wrong})
        assert answer.status_code == 400
        assert "organization" in answer.json()["detail"]


async def test_workflows_are_listed_in_pages(http: httpx.AsyncClient) -> None:
    """The cursor leads to the next page; the last page has none."""
    for name in ("c", "a", "b"):
        await http.put(f"/api/v1/workflows/{name}", json=LINE)
    first = (await http.get("/api/v1/workflows?limit=2")).json()
    assert [each["workflow_id"] for each in first["workflows"]] == ["a", "b"]
    rest = (await http.get(f"/api/v1/workflows?limit=2&cursor={first['cursor']}")).json()
    assert [each["workflow_id"] for each in rest["workflows"]] == ["c"]
    assert "cursor" not in rest
    for query in ("limit=0", "limit=201", "cursor=a.b", "cursr=a"):
        answer = await http.get(f"/api/v1/workflows?{query}")
        assert answer.status_code == 400
        assert query.partition("=")[0] in answer.json()["detail"]


async def test_types_of_nodes_are_listed(http: httpx.AsyncClient, jetstream: JetStream) -> None:
    """The built-in types, and those that workers announce, with a schema of their parameters."""
    letter = NodeType("letter", {"to": Parameter("text", required=True)}, summary="Send a letter.")
    await NodeTypeStore(jetstream, Subjects()).publish([letter])
    found: dict[str, Any] = {}

    async def is_listed() -> bool:
        listed = (await http.get("/api/v1/node-types")).json()["node_types"]
        found.update((each["type"], each) for each in listed)
        return "letter" in found

    await until(is_listed)
    assert found.keys() >= SHIPPED.keys()
    assert found["http"]["summary"] == SHIPPED["http"].summary
    assert found["letter"]["summary"] == "Send a letter."
    schema = jsonschema_rs.validator_for(found["letter"]["parameters"])
    assert schema.is_valid({"to": "${input.name}"})
    assert not schema.is_valid({})
    assert not schema.is_valid({"to": "Ada", "from": "Bob"})


async def test_versions_are_listed_with_their_time(http: httpx.AsyncClient) -> None:
    """Newest first, page by page; one that does not exist is a 404."""
    stored = []
    for number in range(5):
        put = await http.put("/api/v1/workflows/line", json={**LINE, "name": f"number {number}"})
        stored.append((put.json()["version"], f"number {number}"))
    path, seen, cursor = "/api/v1/workflows/line/versions", [], None
    while True:
        query = {"limit": 2} | ({} if cursor is None else {"cursor": cursor})
        page = (await http.get(path, params=query)).json()
        assert all(each["created_at"].endswith("Z") for each in page["versions"])
        assert {each["author"] for each in page["versions"]} == {None}
        seen += [(each["version"], each["name"]) for each in page["versions"]]
        if (cursor := page["cursor"]) is None:
            break
    assert seen == stored[::-1]
    for version, name in stored:
        got = await http.get("/api/v1/workflows/line", params={"version": version})
        assert got.json()["name"] == name
    assert (await http.get("/api/v1/workflows/none/versions")).status_code == 404
    assert (await http.get(path, params={"cursor": "x"})).status_code == 400


async def test_a_caller_learns_who_it_is_and_what_is_allowed(http: httpx.AsyncClient) -> None:
    """Without authentication it may do everything."""
    me = (await http.get("/api/v1/me")).json()
    assert (me["auth"], me["subject"], me["scopes"], me["organizations"]) == (
        "none",
        "",
        None,
        None,
    )
    assert me["organization"] == http.headers["x-organization-id"]
    assert me["limits"]["max_stream_topics"] == 32
    assert me["server_time"].endswith("Z")
