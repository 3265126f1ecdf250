"""The organization of a request, and the scopes of a token."""

from typing import Any

import httpx
import pytest

from harness.http.token_issuer import bearer, token

LIST = "/api/v1/workflows"
FLOW = {"nodes": {"a": {"type": "transform", "with": {"value": 1}}}}


async def _listed(http: httpx.AsyncClient, **request: Any) -> tuple[int, str]:
    answer = await http.get(LIST, **request)
    return answer.status_code, answer.json().get("detail", "")


async def test_the_only_organization_of_a_token_is_the_default(http: httpx.AsyncClient) -> None:
    """It is in the claim org, or the only entry of orgs."""
    for changed in ({"org": "acme"}, {"org": None, "orgs": ["acme"]}, {"orgs": ["acme"]}):
        assert (await _listed(http, headers=bearer(token(**changed))))[0] == 200


async def test_an_organization_can_be_named_in_three_ways(http: httpx.AsyncClient) -> None:
    """The names can be combined if they agree."""
    text = token(org=None, orgs=["one", "two"])
    for tenant in ("one", "two"):
        put = await http.put(
            f"{LIST}/flow-{tenant}",
            json=FLOW,
            headers={**bearer(text), "x-organization-id": tenant},
        )
        assert put.status_code in {200, 201}
    for name, where in (
        ("x-organization-id", "headers"),
        ("organization_id", "params"),
        ("merchantId", "params"),
    ):
        for tenant, other in (("one", "two"), ("two", "one")):
            request: dict[str, Any] = {"headers": bearer(text), "params": {}}
            request[where] = {**request[where], name: tenant}
            answer = await http.get(LIST, **request)
            ids = {flow["workflow_id"] for flow in answer.json()["workflows"]}
            assert f"flow-{tenant}" in ids
            assert f"flow-{other}" not in ids
    status, _ = await _listed(
        http,
        headers={**bearer(text), "x-organization-id": "one"},
        params={"organization_id": "one", "merchantId": "one"},
    )
    assert status == 200


async def test_no_or_several_organizations_are_refused(http: httpx.AsyncClient) -> None:
    """400 that lists the ways to name one."""
    text = token(org="one", orgs=["two"])
    for headers, params in (
        ({}, {}),
        ({"x-organization-id": ""}, {}),
        ({"x-organization-id": "one"}, {"organization_id": "two"}),
        ({"x-organization-id": "one"}, {"merchantId": "two"}),
        ({}, {"merchantId": "one", "organization_id": "two"}),
    ):
        status, detail = await _listed(http, headers={**bearer(text), **headers}, params=params)
        assert status == 400
        for way in ("X-Organization-ID", "organization_id", "merchantId"):
            assert way in detail
    answer = await http.get(
        LIST,
        headers=[
            ("authorization", f"Bearer {text}"),
            ("x-organization-id", "one"),
            ("x-organization-id", "two"),
        ],
    )
    assert answer.status_code == 400


async def test_an_organization_that_the_token_does_not_hold_is_forbidden(
    http: httpx.AsyncClient,
) -> None:
    """403 whether it exists or not; 400 if the name is not an id."""
    for tenant in ("one", "missing", "acmee", "ACME"):
        for request in (
            {"headers": {**bearer(token()), "x-organization-id": tenant}},
            {"headers": bearer(token()), "params": {"organization_id": tenant}},
            {"headers": bearer(token()), "params": {"merchantId": tenant}},
        ):
            status, detail = await _listed(http, **request)
            assert status == 403
            assert tenant in detail
    for tenant in ("*", ">", "acme.>", "acme.x", "*.acme", "a b", "acme\x7f", "$KV"):
        status, _ = await _listed(http, headers=bearer(token()), params={"organization_id": tenant})
        assert status == 400


@pytest.mark.parametrize("changed", [{"org": None}, {"org": None, "orgs": []}])
async def test_a_token_without_an_organization_is_refused(
    http: httpx.AsyncClient, changed: dict[str, Any]
) -> None:
    """403 that names the missing claims."""
    status, detail = await _listed(http, headers=bearer(token(**changed)))
    assert status == 403
    assert "orgs" in detail


async def test_scopes_allow_what_they_name(http: httpx.AsyncClient) -> None:
    """403 names the missing scope. Text and list are accepted; no scope implies another."""
    needs = (
        ("GET", LIST, "workflows:read"),
        ("PUT", f"{LIST}/flow", "workflows:write"),
        ("POST", f"{LIST}/validate", None),
        ("GET", "/api/v1/executions", "executions:read"),
        ("POST", f"{LIST}/flow/runs", "executions:write"),
        ("GET", "/api/v1/dead-letters", "operator"),
        ("GET", "/metrics", "operator"),
    )
    scopes = {scope for _, _, scope in needs if scope}
    given: Any
    for method, path, scope in needs:
        if scope is None:
            continue
        for given in (scope, [scope], f"openid {scope}"):
            answer = await http.request(
                method,
                path,
                json=FLOW if method == "PUT" else None,
                headers=bearer(token(scope=given)),
            )
            assert answer.status_code not in {401, 403}, (path, answer.text)
        for given in (
            " ".join(scopes - {scope}),
            None,
            "",
            [],
            [7],
            scope.upper(),
            f"{scope}s",
            f"x{scope}",
        ):
            answer = await http.request(method, path, headers=bearer(token(scope=given)))
            assert answer.status_code == 403, (path, given)
            assert scope in answer.json()["detail"]
            assert f'scope="{scope}"' in answer.headers["www-authenticate"]


async def test_a_missing_scope_is_checked_first(http: httpx.AsyncClient) -> None:
    """The response reveals neither what exists nor what a body should contain."""
    text = token(scope="workflows:read")
    for path, content in (
        ("/api/v1/executions/missing/cancel", b"not JSON"),
        ("/api/v1/executions/a.b/cancel", b""),
        (f"{LIST}/nothing/runs?strange=1", b"{}"),
    ):
        answer = await http.post(path, content=content, headers=bearer(text))
        assert answer.status_code == 403


async def test_the_log_names_the_subject_of_the_token(acme: httpx.AsyncClient) -> None:
    """A command records the token's subject; the request cannot change it."""
    await acme.put(f"{LIST}/flow", json=FLOW)
    run = (await acme.post(f"{LIST}/flow/runs", json={})).json()
    path = f"/api/v1/executions/{run['execution_id']}"
    answer = await acme.post(f"{path}/cancel", json={}, headers={"x-actor": "eve"})
    assert answer.status_code == 202
    logs = (await acme.get(path, params={"include_logs": "true"})).json()["logs"]
    (command,) = [entry for entry in logs if entry["type"] == "command:requested"]
    assert command["data"]["actor"] == "ada"


async def test_combined_operations_need_both_scopes(
    http: httpx.AsyncClient,
) -> None:
    """A schedule starts runs; run and stream with a last id shows any run."""
    await http.put(f"{LIST}/flow", json=FLOW, headers=bearer(token()))
    schedule = {"workflow_id": "flow", "cron": "@every 1h"}
    for path, body, scope, lacking in (
        ("/api/v1/schedules", schedule, "workflows:write", "executions:write"),
        ("/api/v1/executions/stream", {"flow_id": "flow"}, "executions:write", "executions:read"),
    ):
        for headers in ({}, {"last-event-id": "a-1-0"}):
            answer = await http.post(
                path, json=body, headers={**bearer(token(scope=scope)), **headers}
            )
            assert answer.status_code == 403
            assert lacking in answer.json()["detail"]
