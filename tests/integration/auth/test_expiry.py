"""A token that expires during a stream ends the stream and is not accepted again."""

import asyncio
import time
from typing import Any

import httpx
import pytest

from harness.http.token_issuer import SECRET, bearer, token
from harness.nats.server import NatsServer
from harness.processes.in_process_api import api_in_process
from harness.sse.client import SseClient
from tailrace_shared.duration import Duration

FLOW = {"nodes": {"a": {"type": "transform", "with": {"value": 1}}}}


@pytest.mark.parametrize("direct", [True, False])
async def test_a_stream_ends_when_its_token_expires(idle_nats: NatsServer, direct: bool) -> None:
    """It ends with an event of its own. The last event id stays valid, the token does not."""
    settings: dict[str, Any] = {"auth": "jwt", "auth_secret": SECRET, "direct_writes": direct}
    async with (
        api_in_process(idle_nats.url, auth_leeway=Duration(0), **settings) as api,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{api.port}", timeout=60) as http,
    ):
        await http.put("/api/v1/workflows/flow", json=FLOW, headers=bearer(token()))
        run = await http.post("/api/v1/workflows/flow/runs", json={}, headers=bearer(token()))
        stream = run.json()["stream_url"]
        short = token(exp=int(time.time()) + 8)
        ticket = await http.post(
            "/api/v1/sse/tickets", json={"stream": stream}, headers=bearer(short)
        )

        async def watched(path: str, headers: dict[str, str]) -> list[Any]:
            async with SseClient(api.port, path, headers=headers) as client:
                events = await client.all()
                assert client.is_complete
                return events

        ways = [
            (stream, bearer(short)),
            (f"{stream}?access_token={short}", {}),
            (f"{stream}?Authorization=Bearer%20{short}", {}),
            (ticket.json()["url"], {}),
        ]
        for events in await asyncio.gather(*(watched(*way) for way in ways)):
            assert [event.type for event in events] == [
                "connected",
                "execution:queued",
                "stream:auth-expired",
            ]
            assert events[-1].data == "{}"
            assert not events[-1].is_logged
        for path, headers in ways:
            assert (await http.get(path, headers=headers)).status_code == 401
        async with SseClient(
            api.port, stream, headers=bearer(token()), last_event_id=events[1].id
        ) as client:
            await client.read()
            assert client.status == 200


async def test_a_run_and_stream_response_ends_with_its_token(idle_nats: NatsServer) -> None:
    """The run continues."""
    settings: dict[str, Any] = {"auth": "jwt", "auth_secret": SECRET, "auth_leeway": Duration(0)}
    async with (
        api_in_process(idle_nats.url, **settings) as api,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{api.port}", timeout=60) as http,
    ):
        await http.put("/api/v1/workflows/flow", json=FLOW, headers=bearer(token()))
        async with SseClient(
            api.port,
            "/api/v1/executions/stream",
            method="POST",
            headers=bearer(token(exp=int(time.time()) + 8)),
            body={"flow_id": "flow", "input_data": {}},
        ) as client:
            events = await client.all()
        assert events[-1].type == "stream:auth-expired"
        execution = events[0].json()["data"]["execution_id"]
        answer = await http.get(f"/api/v1/executions/{execution}", headers=bearer(token()))
        assert answer.json()["status"] == "queued"
