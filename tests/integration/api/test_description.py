"""The API description: complete, cacheable and readable."""

import re

import httpx

from harness.nats.server import NatsServer
from tailrace_api.app import create_app
from tailrace_api.web.operation import Operation
from tailrace_shared.settings import ApiSettings


async def test_every_route_is_described(idle_nats: NatsServer, http: httpx.AsyncClient) -> None:
    """All routes are operations, and their ids are unique."""
    paths = (await http.get("/openapi.json")).json()["paths"]
    described = {
        (method.upper(), path): operation["operationId"]
        for path, operations in paths.items()
        for method, operation in operations.items()
    }
    async with create_app(ApiSettings(nats_url=idle_nats.url)) as api:
        routes = list(api.app.routes)
    assert [route for route in routes if not isinstance(route, Operation)] == []
    assert set(described) == {
        (route.method, re.sub(r":\w+}", "}", route.path))
        for route in routes
        if isinstance(route, Operation)
    }
    assert len(set(described.values())) == len(described)


async def test_the_root_lists_the_entry_points(http: httpx.AsyncClient) -> None:
    """As JSON, and as a page for browsers."""
    answer = await http.get("/")
    assert answer.json().items() >= {"docs": "/docs", "openapi": "/openapi.json"}.items()
    page = await http.get("/", headers={"accept": "text/html,*/*;q=0.8"})
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    for path in re.findall(r'href="([^"]+)"', page.text):
        assert (await http.get(path)).status_code == 200


async def test_an_empty_parameter_counts_as_absent(http: httpx.AsyncClient) -> None:
    """Forms send fields that were not filled in."""
    flow = {"nodes": {"a": {"type": "transform", "with": {"value": 1}}}}
    await http.put("/api/v1/workflows/flow", json=flow)
    await http.post("/api/v1/workflows/flow/runs")
    paths = (await http.get("/openapi.json")).json()["paths"]
    asked = 0
    for path, operations in paths.items():
        parameters = operations.get("get", {}).get("parameters", [])
        optional = [
            each["name"]
            for each in parameters
            if each.get("in") == "query" and {"const": ""} in each["schema"].get("anyOf", [])
        ]
        if optional and "dead-letters" not in path:
            url = path.replace("{workflow_id}", "flow")
            whole, given = (
                await http.get(url),
                await http.get(url, params=dict.fromkeys(optional, "")),
            )
            assert (given.status_code, given.content) == (whole.status_code, whole.content), path
            asked += len(optional)
    assert asked > 10


async def test_a_current_copy_is_not_sent_again(
    http: httpx.AsyncClient,
) -> None:
    """The same holds for the page."""
    for path in ("/openapi.json", "/docs"):
        first = await http.get(path)
        assert first.status_code == 200
        etag = first.headers["etag"]
        for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
            again = await http.get(path, headers={"if-none-match": known})
            assert (again.status_code, again.content) == (304, b"")
            assert again.headers["etag"] == etag
        assert (await http.get(path, headers={"if-none-match": '"other"'})).status_code == 200


async def test_the_page_has_a_strict_content_security_policy(http: httpx.AsyncClient) -> None:
    """It allows only the page's own style and no script."""
    page = await http.get("/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    assert "/api/v1/workflows/{workflow_id}/runs" in page.text
