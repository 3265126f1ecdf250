"""No token, ticket or secret appears in any log or response."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import nats

from harness.http.token_issuer import SECRET, bearer, token
from harness.nats.server import NatsServer
from harness.processes.api_process import ApiProcess
from harness.sse.client import SseClient
from tailrace_shared.subjects import Subjects

FLOW = {"nodes": {"a": {"type": "transform", "with": {"value": 1}}}}
OPAQUE = "opaque-token-that-is-no-jwt-0123456789"


async def _everything(api: ApiProcess, text: str) -> list[str]:
    """Make requests with tokens in all places, valid and not; return all responses as texts."""
    said: list[str] = []
    async with httpx.AsyncClient(base_url=api.url, timeout=60) as http:

        async def ask(method: str, path: str, **request: Any) -> httpx.Response:
            answer = await http.request(method, path, **request)
            said.append(f"{answer.headers} {answer.text}")
            return answer

        for query in (f"Authorization=Bearer%20{text}", f"access_token={text}", f"ticket={text}"):
            for path in (
                "/api/v1/workflows",
                "/api/v1/workflows/a.b",
                "/api/v1/executions/missing",
                "/api/v1/sse/executions/missing/stream",
                "/nothing",
                "/healthz",
                "/metrics",
            ):
                await ask("GET", f"{path}?{query}")
                await ask("POST", f"{path}?{query}", content=b"{")
            # A credential in the wrong parameter.
            await ask("GET", f"/api/v1/workflows&{query}")
            await ask("GET", f"/api/v1/workflows/{query}")
            await ask("GET", f"/api/v1/executions/{query}/steps/{query}/output")
            await ask("GET", f"/nothing/{query}")
            await ask("GET", f"/api/v1/workflows?strange={query}&{query}&x={text}")
            await ask("GET", f"/api/v1/executions?limit={query}", headers=bearer(token()))
            await ask("GET", f"/api/v1/executions?cursor=Bearer%20{text}", headers=bearer(token()))
        for headers in (
            {"authorization": f"Bearer {text}"},
            {"authorization": text},
            {"authorization": f"Basic {text}"},
            {**bearer(token()), "idempotency-key": "", "last-event-id": text},
            {**bearer(text), "x-organization-id": "other"},
            {**bearer(text), "x-organization-id": f"{text[:9]}.*"},
            {**bearer(text), "content-type": "text/plain"},
        ):
            await ask("GET", "/api/v1/workflows", headers=headers)
            await ask("PUT", "/api/v1/workflows/flow", headers=headers, json=FLOW)
            await ask("POST", "/api/v1/sse/tickets", headers=headers, json={"stream": f"/{text}"})
        if (
            run := await ask("POST", "/api/v1/workflows/flow/runs", headers=bearer(token()))
        ).is_success:
            stream = run.json()["stream_url"]
            async with SseClient(api.port, f"{stream}?access_token={text}") as client:
                await client.read()
            async with SseClient(api.port, stream, headers=bearer(text)) as client:
                await client.read()
    await _broken(api, text)
    return said


async def _broken(api: ApiProcess, text: str) -> None:
    for request in (
        f"GET /api/v1/workflows?access_token={text} HTTP/9.9\r\n\r\n",
        f"GET /api/v1/workflows?access_token={text}\r\nAuthorization: Bearer {text}\r\n\r\n",
        f"GET /x HTTP/1.1\r\nAuthorization: Bearer {text}\0\r\n\r\n",
        f"GET /x HTTP/1.1\r\nAuthorization : Bearer {text}\r\n\r\n",
        f"GET /x?access_token={text}&{'x' * 20_000}",
        f"GET /x?access_token={text} HTTP/1.1\r\nAuthorization: Bearer {text}{'x' * 80_000}",
        f"GET /x HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: {text}\r\n\r\n",
        (
            f"PUT /api/v1/workflows/x?access_token={text} HTTP/1.1\r\n"
            "host: x\r\ncontent-length: 9\r\n\r\n"
        ),
        f"GET http://u:{text}@x/api/v1/workflows HTTP/1.1\r\nhost: x\r\n\r\n",
        f"Authorization: Bearer {text}\r\n\r\n",
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
        writer.write(request.encode())
        writer.write_eof()
        await asyncio.wait_for(reader.read(), 60)
        writer.close()


async def test_no_credential_is_logged_or_returned(idle_nats: NatsServer, logs: Path) -> None:
    """Valid, invalid and opaque tokens and tickets in all places, in both log formats."""
    good = token()
    bad = token(exp=1)
    for log_format in ("json", "console"):
        settings = {"auth": "jwt", "auth_secret": SECRET, "log_level": "debug"}
        folder = logs / log_format
        folder.mkdir()
        with ApiProcess(
            idle_nats.url, folder, log_format=log_format, receive_timeout="1s", **settings
        ) as api:
            async with httpx.AsyncClient(base_url=api.url, timeout=60) as http:
                answer = await http.post(
                    "/api/v1/sse/tickets",
                    json={"stream": "/api/v1/sse/executions/x/stream"},
                    headers=bearer(good),
                )
                ticket = answer.json()["ticket"]
            for text in (good, bad, ticket, OPAQUE):
                answers = await _everything(api, text)
                written = api.log_text
                assert "/api/v1/workflows" in written
                for part in {text, *text.split(".")} - {good.split(".")[0]}:
                    assert part not in written
                    assert not [answer for answer in answers if part in answer]
            assert SECRET not in api.log_text
            api.stop()
            assert good not in api.log_text


async def test_an_internal_error_reveals_no_token(idle_nats: NatsServer, logs: Path) -> None:
    """Its traceback is logged without the credentials of the request."""
    settings = {"auth": "jwt", "auth_secret": SECRET}
    client = await nats.connect(idle_nats.url)
    await client.jetstream().publish(Subjects().log("acme", "strange"), b"no commit of ours")
    await client.close()
    with ApiProcess(idle_nats.url, logs, **settings) as api:
        async with httpx.AsyncClient(base_url=api.url, timeout=60) as http:
            text = token()
            answer = await http.get(f"/api/v1/executions/strange?access_token={text}")
            assert answer.status_code == 500
            assert "DecodeError" in api.log_text
            assert text.split(".")[1] not in api.log_text
            assert text.split(".")[1] not in answer.text
