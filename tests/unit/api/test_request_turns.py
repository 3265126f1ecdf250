"""Turns of requests: few at a time, in order, and those of a tenant only behind each other."""

import asyncio
from collections.abc import Awaitable

import pytest
from starlette.responses import Response
from starlette.types import Message, Scope

from tailrace_api.middleware.request_turns import RequestTurns
from tailrace_api.web.problems import RefusedError
from tailrace_api.web.request_turns import TenantTurns, end_turn
from tailrace_shared.settings import ApiSettings


async def _iterations(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_tenant_waits_for_its_own_requests_only():
    turns = TenantTurns(2, 10)
    await turns.begin("a")
    await turns.begin("a")
    third = asyncio.ensure_future(turns.begin("a"))
    await asyncio.wait_for(turns.begin("b"), 60)
    await _iterations(3)
    assert not third.done()
    turns.end("a")
    await asyncio.wait_for(third, 60)


async def test_waiting_requests_have_their_turns_in_order_but_for_those_that_go_on():
    turns, order = TenantTurns(1, 10), list[str]()
    await turns.begin("a")

    async def take(name: str, *, goes_on: bool = False) -> None:
        await turns.begin("a", goes_on=goes_on)
        order.append(name)
        turns.end("a")

    tasks = [asyncio.create_task(take(name)) for name in ("first", "second")]
    await _iterations(2)
    tasks.append(asyncio.create_task(take("went on", goes_on=True)))
    await _iterations(2)
    turns.end("a")
    await asyncio.gather(*tasks)
    assert order == ["went on", "first", "second"]


async def test_a_refusal_names_the_settings():
    turns = TenantTurns(1, 1)
    await turns.begin("a")
    waiting = asyncio.ensure_future(turns.begin("a"))
    await _iterations(2)
    with pytest.raises(RefusedError, match="TAILRACE_MAX_TENANT_WAITING_REQUESTS") as refused:
        await turns.begin("a")
    assert refused.value.status == 429
    assert refused.value.headers == {"retry-after": "1"}
    waiting.cancel()


async def test_a_request_that_waits_too_long_is_refused_and_leaves_the_queue():
    turns = TenantTurns(1, 10, max_wait_s=0.01)
    await turns.begin("a")
    with pytest.raises(RefusedError, match="TAILRACE_MAX_TENANT_REQUESTS") as refused:
        await turns.begin("a")
    assert refused.value.status == 503
    turns.end("a")
    await asyncio.wait_for(turns.begin("a"), 60)


@pytest.mark.parametrize("is_given", [False, True], ids=["waiting", "given its turn"])
async def test_a_request_that_is_cancelled_leaves_its_turn_to_the_next(is_given: bool):
    turns = TenantTurns(1, 10)
    await turns.begin("a")
    cancelled, following = (asyncio.ensure_future(turns.begin("a")) for _ in range(2))
    await _iterations(2)
    if is_given:
        turns.end("a")
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    if not is_given:
        turns.end("a")
    await asyncio.wait_for(following, 60)
    turns.end("a")
    assert not turns.is_busy


class _Requests:
    """Requests to an application whose requests wait until the test lets them answer."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.answer = asyncio.Event()
        self.bodies: asyncio.Queue[Message] = asyncio.Queue()
        self.status: dict[str, int] = {}
        settings = ApiSettings(max_tenant_requests=1)
        self._app = RequestTurns(self._serve, settings, self._retry_later)

    def _retry_later(self) -> Response:
        raise AssertionError("no request is a stream")

    async def _serve(self, scope: Scope, receive, send) -> None:
        path = scope["path"]
        if path == "/body":
            await receive()
        self.begun.append(path)
        if path == "/stream":
            end_turn(scope)
        if path != "/healthz":
            await self.answer.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})

    def request(self, path: str, tenant: str = "a") -> "asyncio.Task[None]":
        headers = [(b"x-organization-id", tenant.encode())]
        scope = {"type": "http", "method": "POST", "path": path, "headers": headers}

        async def send(message: Message) -> None:
            self.status[path] = message["status"]

        call: Awaitable[None] = self._app(scope | {"query_string": b""}, self.bodies.get, send)
        return asyncio.ensure_future(call)


async def test_probes_do_not_wait():
    requests = _Requests()
    for number in range(30):
        requests.request(f"/{number}")
    await _iterations(2)
    await asyncio.wait_for(requests.request("/healthz"), 60)
    assert requests.status == {"/healthz": 200}


async def test_a_request_that_waits_for_its_body_holds_no_turn():
    requests = _Requests()
    body = requests.request("/body")
    await _iterations(3)
    requests.request("/other")
    await _iterations(3)
    assert requests.begun == ["/other"]
    requests.bodies.put_nowait({"type": "http.request", "body": b"{}", "more_body": False})
    await _iterations(5)
    assert requests.begun == ["/other"]
    requests.answer.set()
    await asyncio.wait_for(body, 60)
    assert requests.begun == ["/other", "/body"]


async def test_a_stream_ends_its_turn_before_its_response():
    requests = _Requests()
    requests.request("/stream")
    requests.request("/other")
    await _iterations(5)
    assert requests.begun == ["/stream", "/other"]
