"""Authorization of all routes, including routes added later."""

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route

from harness.http.generated_requests import Names, operations_of, requests_of, routes_of
from harness.http.token_issuer import ALL_SCOPES, SECRET, bearer, token
from harness.nats.server import NatsServer
from harness.processes.in_process_api import api_in_process
from tailrace_api.auth.authorization import Authorization
from tailrace_api.auth.tickets.tickets import Tickets
from tailrace_api.auth.tokens.keys import FixedKey
from tailrace_api.auth.tokens.verifier import Verifier
from tailrace_api.web.operation import Operation

PROBES = {"/healthz", "/readyz", "/api/v1/sse/health"}
OPEN = {*PROBES, "/", "/assets/{asset}", "/openapi.json", "/docs"}
NAMES = Names("missing", "nothing", "never")


async def test_every_route_requires_token_scope_and_organization(
    idle_nats: NatsServer,
) -> None:
    """401 without a token, 403 without the scope or for another organization, with any body."""
    async with (
        api_in_process(idle_nats.url, auth="jwt", auth_secret=SECRET) as api,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{api.port}", timeout=60) as http,
    ):
        assert routes_of(api) == operations_of(api)
        assert {route.path for route in operations_of(api) if route.scope is None} <= OPEN
        for operation in operations_of(api):
            if operation.scope is None:
                expected = 404 if "{" in operation.path else 200
                assert (await http.get(operation.path)).status_code == expected
                continue
            everything = set(ALL_SCOPES.split())
            lacking = [" ".join(everything - {scope}) for scope in operation.scopes]
            for request in requests_of(operation, NAMES):
                arguments = request.arguments()
                for headers, status in (
                    ({}, 401),
                    (bearer(token(exp=1)), 401),
                    *((bearer(token(scope=scope)), 403) for scope in lacking),
                ):
                    answer = await http.request(**arguments, headers=headers)
                    assert answer.status_code == status, (request, answer.text)
                if not operation.is_of_tenant:
                    continue
                for name in ("x-organization-id", "organization_id", "merchantId"):
                    headers, query = bearer(token()), dict(request.query)
                    (headers if name.startswith("x-") else query)[name] = "other"
                    answer = await http.request(**{**arguments, "params": query}, headers=headers)
                    assert answer.status_code == 403, (request, answer.text)


async def _hello(_request: Request) -> Response:
    return PlainTextResponse("hello")


@pytest.mark.parametrize(
    "route",
    [Route("/x", _hello), Mount("/", routes=[Route("/x", _hello)])],
    ids=["route", "mount"],
)
async def test_a_route_without_a_declared_scope_is_closed(
    route: Route | Mount,
) -> None:
    """No scope opens it. Without authentication it is open, like all routes."""
    key = FixedKey("HS256", SECRET.encode())
    for verifier, status in ((Verifier("HS256", key), 403), (None, 200)):
        authorization = Middleware(
            Authorization,
            verifier=verifier,
            tickets=Tickets(b"k" * 32, 60),
            retry_later=Response,
        )
        app = Starlette(routes=[route], middleware=[authorization])
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            assert (await http.get("/x", headers=bearer(token()))).status_code == status


async def test_a_route_added_later_is_authorized_too() -> None:
    """The middleware looks up routes at the time of a request."""
    authorization = Middleware(
        Authorization,
        verifier=Verifier("HS256", FixedKey("HS256", SECRET.encode())),
        tickets=Tickets(b"k" * 32, 60),
        retry_later=Response,
    )
    app = Starlette(middleware=[authorization])
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://test"
    ) as http:
        assert (await http.get("/x")).status_code == 404
        app.router.routes.append(
            Operation("GET", "/x", _hello, scope="executions:read", summary="", answers={})
        )
        assert (await http.get("/x")).status_code == 401
        assert (await http.get("/x", headers=bearer(token()))).status_code == 200
