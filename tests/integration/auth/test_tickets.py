"""Tickets open one stream for a short time at any replica."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from harness.http.generated_requests import Names, operations_of, requests_of
from harness.http.token_issuer import SECRET, bearer, token
from harness.nats.server import NatsServer
from harness.processes.in_process_api import InProcessApi, api_in_process
from harness.sse.client import SseClient, SseEvent
from tailrace_api.auth.principal import Principal
from tailrace_api.auth.tickets.tickets import Stream, Tickets
from tailrace_shared.duration import Duration
from tailrace_shared.redact.credentials import redact_credentials

FLOW = {"nodes": {"a": {"type": "transform", "with": {"value": 1}}}}
TICKETS = "/api/v1/sse/tickets"


class Site(NamedTuple):
    """Two replicas and a run of ``acme``."""

    replicas: list[InProcessApi]
    http: httpx.AsyncClient
    stream: str

    async def ticket(self, stream: str = "", *, headers: Any = None, **changed: Any) -> Any:
        """Request a ticket."""
        return await self.http.post(
            TICKETS,
            json={"stream": stream or self.stream},
            headers={**bearer(token(**changed)), **(headers or {})},
        )

    async def url(self, stream: str = "", **changed: Any) -> str:
        """Return the URL of a stream with its ticket."""
        answer = await self.ticket(stream, **changed)
        assert answer.status_code == 201, answer.text
        url: str = answer.json()["url"]
        return url

    async def status(self, url: str, replica: int = 0, **request: Any) -> int:
        """Return the status of opening a stream."""
        async with SseClient(self.replicas[replica].port, url, **request) as client:
            await client.read()
            return client.status


@pytest.fixture
async def site(idle_nats: NatsServer) -> AsyncIterator[Site]:
    """Two replicas and a run."""
    async with AsyncExitStack() as stack:
        settings: dict[str, Any] = {"auth": "jwt", "auth_secret": SECRET, "retry": Duration(0.02)}
        replicas = [
            await stack.enter_async_context(api_in_process(idle_nats.url, **settings))
            for _ in range(2)
        ]
        http = await stack.enter_async_context(
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{replicas[0].port}", timeout=60)
        )
        await http.put("/api/v1/workflows/flow", json=FLOW, headers=bearer(token()))
        run = await http.post("/api/v1/workflows/flow/runs", json={}, headers=bearer(token()))
        yield Site(replicas, http, run.json()["stream_url"])


async def test_a_ticket_opens_its_stream_at_every_replica(site: Site) -> None:
    """More than once, because an EventSource reconnects, and with any resume position."""
    url = await site.url()
    events: list[SseEvent] = []
    for replica in (0, 1, 0):
        async with SseClient(site.replicas[replica].port, url) as client:
            events = await client.take(2)
            assert [event.type for event in events] == ["connected", "execution:queued"]
    assert await site.status(url, last_event_id=events[-1].id) == 200
    assert await site.status(f"{url}&last_event_id={events[-1].id}") == 200


async def test_the_response_has_ticket_url_and_expiry(site: Site) -> None:
    """It is not cacheable, and the expiry is within the lifetime."""
    answer = await site.ticket()
    document = answer.json()
    assert answer.headers["cache-control"] == "no-store"
    parts = urlsplit(document["url"])
    assert parts.path == site.stream
    assert parse_qs(parts.query) == {"organization_id": ["acme"], "ticket": [document["ticket"]]}
    assert 0 < _seconds(document["expires_at"]) <= 60
    # A ticket expires no later than its token.
    document = (await site.ticket(exp=int(time.time()) + 30)).json()
    assert 0 < _seconds(document["expires_at"]) <= 40


def _seconds(text: str) -> float:
    return (datetime.fromisoformat(text) - datetime.now(UTC)).total_seconds()


async def test_a_ticket_opens_nothing_else(site: Site) -> None:
    """No other path, query, organization or method, and no route without a stream."""
    url = await site.url()
    ticket = parse_qs(urlsplit(url).query)["ticket"][0]
    other = (
        await site.http.post("/api/v1/workflows/flow/runs", json={}, headers=bearer(token()))
    ).json()["stream_url"]
    for wrong in (
        url.replace(site.stream, other),
        url + "&x=1",
        url.replace("organization_id=acme&", ""),
        url.replace("organization_id=acme", "organization_id=other"),
        url.replace("organization_id=acme", "merchantId=acme"),
        url.replace(site.stream, site.stream + "/"),
        url.replace(site.stream, site.stream.replace("/api", "//api")),
    ):
        assert await site.status(wrong) in {401, 404}, wrong
    headers = {"x-organization-id": "other"}
    assert await site.status(url, headers=headers) in {400, 403}
    for path in ("/api/v1/workflows", "/api/v1/executions", "/metrics", TICKETS):
        answer = await site.http.get(path, params={"ticket": ticket})
        assert answer.status_code in {401, 405}
    answer = await site.http.post(
        "/api/v1/executions/stream", params={"ticket": ticket}, json={"flow_id": "flow"}
    )
    assert answer.status_code == 401
    answer = await site.http.get("/api/v1/workflows", headers=bearer(ticket))
    assert answer.status_code == 401
    answer = await site.http.get(site.stream, params={"access_token": ticket})
    assert answer.status_code == 401


async def test_a_forged_ticket_is_refused(site: Site) -> None:
    """Changed content, changed signatures, and signatures with another key."""
    url = await site.url()
    ticket = parse_qs(urlsplit(url).query)["ticket"][0]
    prefix, rest = ticket[:4], ticket[4:]
    body, signature = rest.split(".")
    content = json.loads(base64.urlsafe_b64decode(body + "=="))
    forged = base64.urlsafe_b64encode(
        json.dumps([*content[:3], "other", *content[4:]]).encode()
    ).decode()
    stranger = Tickets(b"x" * 32, 60).issue(
        Principal("eve"), "acme", "executions:read", Stream(site.stream, "organization_id=acme")
    )
    for wrong in (
        f"{prefix}{forged.rstrip('=')}.{signature}",
        f"{prefix}{body}.{signature[:-2]}AA",
        f"{prefix}{body}.",
        f"{prefix}{body}",
        f"{prefix}.{signature}",
        rest,
        "",
        "trt_",
        "trt_%00.%0d%0a",
        stranger.text,
        "trt_" + "A" * 20_000,
    ):
        answer = await site.http.get(url.replace(ticket, wrong))
        assert answer.status_code in {401, 414}, wrong
        assert "stream" not in answer.headers["content-type"]


def test_redaction_recognizes_every_ticket() -> None:
    """Also one with contents that would compress well."""
    tickets = Tickets(b"k" * 32, 60)
    for path in ("/s", "/s" + "a" * 1000):
        ticket = tickets.issue(Principal("ada"), "acme", None, Stream(path, ""))
        assert redact_credentials(f"GET /x/{ticket.text} failed") == "GET /x/*** failed"


def test_a_ticket_expires_and_its_stream_does_not() -> None:
    """The lifetime limits opening; an open stream lasts as long as the token."""
    now = time.time()
    tickets = Tickets(b"k" * 32, 60, lambda: now)
    stream = Stream.of("/s", "b=2&a=1&last_event_id=x")
    principal = Principal("ada", frozenset({"a", "b"}), frozenset({"x", "y"}), now + 600)
    ticket = tickets.issue(principal, "a", "x", stream)
    assert ticket.expires_at == now + 60
    for place in ("", "&last_event_id=y", "&lastEventId=y"):
        assert tickets.principal(ticket.text, Stream.of("/s", f"b=2&a=1{place}")) == Principal(
            "ada", frozenset({"a"}), frozenset({"x"}), now + 600
        )
    later = Tickets(b"k" * 32, 60, lambda: now + 60)
    with pytest.raises(Exception, match="expired"):
        later.principal(ticket.text, stream)


async def test_a_ticket_needs_the_scope_and_the_organization_of_its_stream(site: Site) -> None:
    """A ticket gives no more access than the token."""
    assert (await site.ticket(scope="workflows:read")).status_code == 403
    assert (await site.ticket(org="other")).status_code == 201  # but its stream is not found
    assert await site.status(await site.url(org="other")) == 404
    assert (await site.ticket(f"{site.stream}?organization_id=other")).status_code == 403
    assert (await site.ticket(headers={"x-organization-id": "other"})).status_code == 403
    answer = await site.ticket(
        f"{site.stream}?organization_id=acme",
        headers={"x-organization-id": "other"},
        orgs=["other"],
    )
    assert answer.status_code == 400
    url = await site.url(org=None, orgs=["acme", "other"], headers={"x-organization-id": "acme"})
    assert await site.status(url) == 200


@pytest.mark.parametrize(
    "stream",
    [
        "",
        "x",
        "//evil.example/api/v1/sse/executions/x/stream",
        "http://evil.example/api/v1/sse/executions/x/stream",
        "/api/v1/sse/executions/x/stream#fragment",
        "/api/v1/workflows",
        "/api/v1/executions/stream",
        "/api/v1/sse/executions/x/stream\r\nset-cookie: a=b",
        "/api/v1/sse/executions/é/stream",
        "/api/v1/sse/executions/x/stream?" + "x" * 5000,
        "/healthz",
        7,
        None,
        ["/api/v1/sse/executions/x/stream"],
    ],
)
async def test_a_path_without_a_stream_gets_no_ticket(acme: httpx.AsyncClient, stream: Any) -> None:
    """422 that points to the field."""
    answer = await acme.post(TICKETS, json={"stream": stream})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/stream"
    assert "set-cookie" not in answer.headers


async def test_every_stream_can_be_opened_by_a_ticket(site: Site) -> None:
    """The query is exactly the requested one, in the same order."""
    execution = site.stream.split("/")[5]
    streams = [
        str(httpx.URL(request.path, params=request.query))
        for operation in operations_of(site.replicas[0])
        for request in requests_of(operation, Names(execution, "flow", "never"))[:1]
        if operation.method == "GET" and request.is_stream
    ]
    assert len(streams) >= 4
    url = ""
    for stream in streams:
        for named in (stream, f"{stream}{'&' if '?' in stream else '?'}merchantId=acme"):
            url = await site.url(named)
            assert await site.status(url, replica=1) == 200, url
            assert await site.status(f"{url}&visible=other", replica=1) in {400, 401}
        ticket = parse_qs(urlsplit(url).query)["ticket"][0]
        for other in streams:
            if other != stream:
                query = httpx.URL(other, params={"organization_id": "acme", "ticket": ticket})
                assert await site.status(query.raw_path.decode()) == 401


async def test_credentials_in_the_requested_url_are_removed(site: Site) -> None:
    """A client may request a ticket for a URL that contains its token."""
    url = await site.url(f"{site.stream}?Authorization=Bearer%20secret&access_token=secret")
    assert "secret" not in url
    assert await site.status(url) == 200


async def test_replicas_that_start_together_share_one_key(nats_server: NatsServer) -> None:
    """One replica creates the key, the others read it."""
    async with AsyncExitStack() as stack:
        replicas = await asyncio.gather(
            *(
                stack.enter_async_context(
                    api_in_process(nats_server.url, auth="jwt", auth_secret=SECRET)
                )
                for _ in range(4)
            )
        )
        answers = []
        stream = "/api/v1/sse/executions/missing/stream"
        for replica in replicas:
            async with httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{replica.port}", timeout=60
            ) as http:
                answer = await http.post(TICKETS, json={"stream": stream}, headers=bearer(token()))
                answers.append(answer.json()["url"])
        for replica in replicas:
            async with httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{replica.port}", timeout=60
            ) as http:
                for url in answers:
                    assert (await http.get(url)).status_code == 404


async def test_tickets_work_without_authentication(idle_nats: NatsServer) -> None:
    """A front end does not need to know whether authentication is on."""
    async with (
        api_in_process(idle_nats.url) as api,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{api.port}", timeout=60) as http,
    ):
        headers = {"x-organization-id": "open"}
        await http.put("/api/v1/workflows/flow", json=FLOW, headers=headers)
        run = await http.post("/api/v1/workflows/flow/runs", json={}, headers=headers)
        answer = await http.post(
            TICKETS, json={"stream": run.json()["stream_url"]}, headers=headers
        )
        async with SseClient(api.port, answer.json()["url"]) as client:
            assert len(await client.take(2)) == 2
