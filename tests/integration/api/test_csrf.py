"""CSRF and DNS rebinding: an API without authentication serves no page of another site."""

import json
from pathlib import Path

import httpx
import pytest

from harness.nats.message_counts import stored, taken
from harness.nats.server import NatsServer
from harness.processes.api_process import ApiProcess
from tailrace_shared.nats.jetstream import JetStream

pytestmark = pytest.mark.one_node("HTTP only")

FLOW = {"nodes": {"a": {"type": "transform", "with": {"value": 1}}}}
FORM = {"content-type": "application/x-www-form-urlencoded"}
FOREIGN = {"origin": "https://evil.example", "sec-fetch-site": "cross-site"}


@pytest.fixture
async def runs(http: httpx.AsyncClient) -> str:
    """The path that starts runs of a workflow."""
    assert (await http.put("/api/v1/workflows/flow", json=FLOW)).status_code == 201
    return "/api/v1/workflows/flow/runs"


async def test_json_with_a_form_content_type_is_accepted(
    http: httpx.AsyncClient, runs: str
) -> None:
    """``curl -d '{…}'`` sends it like this."""
    for content in (b'{"input": {"a": 1}}', b' \n{"input": {}}', b""):
        answer = await http.post(runs, content=content, headers=FORM)
        assert answer.status_code == 202, answer.text


async def test_a_form_is_refused_with_the_expected_type(http: httpx.AsyncClient, runs: str) -> None:
    """Form fields are not JSON, and half an object is malformed."""
    answer = await http.post(runs, content=b"input=1", headers=FORM)
    assert answer.status_code == 415
    assert "application/json" in answer.json()["detail"]
    assert (await http.post(runs, content=b'{"input"', headers=FORM)).status_code == 400


async def test_a_page_of_another_site_cannot_start_runs(
    http: httpx.AsyncClient, runs: str, jetstream: JetStream
) -> None:
    """A form cannot, and a request without a body cannot either."""
    before = await stored(jetstream)
    for headers in (FOREIGN, {"origin": "https://evil.example"}, {"origin": "null"}):
        for kind in ({}, FORM):
            answer = await http.post(runs, content=b"{}", headers={**headers, **kind})
            assert answer.status_code == 403
            assert "another site" in answer.json()["detail"]
    # Between two ports of this machine, as in development.
    assert await taken(jetstream, before) == {}
    own = {"origin": "http://localhost:3000", "sec-fetch-site": "same-site"}
    assert (await http.post(runs, headers=own)).status_code == 202


async def test_a_rebound_host_name_is_refused(http: httpx.AsyncClient) -> None:
    """Reads included: the browser would take both for one site."""
    for host in ("evil.example", "evil.example:8080", "127.0.0.1.evil.example"):
        answer = await http.get("/api/v1/workflows", headers={"host": host})
        assert answer.status_code == 421
        assert answer.headers["content-type"] == "application/problem+json"
        assert "TAILRACE_ALLOWED_HOSTS" in answer.json()["detail"]
    for host in ("localhost", "localhost:1", "[::1]:8080", "api.localhost"):
        assert (await http.get("/healthz", headers={"host": host})).status_code == 200


async def test_host_names_and_origins_can_be_allowed(
    idle_nats: NatsServer, tmp_path: Path, tenant: str
) -> None:
    """Host names and origins have separate settings."""
    settings = {"allowed_hosts": "api.example, b.example", "cors_origins": "https://app.example"}
    with ApiProcess(idle_nats.url, tmp_path, **settings) as api:
        async with httpx.AsyncClient(
            base_url=api.url, headers={"x-organization-id": tenant, "host": "api.example"}
        ) as http:
            allowed = {"origin": "https://app.example", "sec-fetch-site": "cross-site"}
            answer = await http.post("/api/v1/triggers/x", headers=allowed)
            assert answer.status_code == 202
            assert answer.headers["access-control-allow-origin"] == "https://app.example"
            assert (await http.post("/api/v1/triggers/x", headers=FOREIGN)).status_code == 403
            assert (await http.get("/healthz", headers={"host": "c.example"})).status_code == 421


async def test_behind_an_authenticating_proxy_any_host_name_works(
    idle_nats: NatsServer, tmp_path: Path
) -> None:
    """Cross-site requests are still refused."""
    with ApiProcess(idle_nats.url, tmp_path, allow_open_bind="true") as api:
        async with httpx.AsyncClient(
            base_url=api.url, headers={"host": "api.example"}, timeout=60
        ) as http:
            assert (await http.get("/healthz")).status_code == 200
            body = json.dumps({})
            answer = await http.post("/api/v1/triggers/x", content=body, headers=FOREIGN)
            assert answer.status_code == 403
