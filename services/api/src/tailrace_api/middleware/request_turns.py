"""Let the requests of one tenant wait for each other.

Probes never wait: an orchestrator would restart a process because a tenant keeps it busy.
"""

from collections.abc import Callable
from typing import Final

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tailrace_api.auth.tenancy import tenant_or_empty
from tailrace_api.web.operation import Operation, matching_route
from tailrace_api.web.problems import RefusedError, problem
from tailrace_api.web.request_turns import TenantTurns, Turn
from tailrace_shared.settings import ApiSettings

PROBES: Final = frozenset({"/healthz", "/readyz"})


class RequestTurns:
    """ASGI middleware that limits the requests of one tenant that are answered at a time.

    It must be inside of the authorization.

    Args:
        retry_later: Returns the response that makes an EventSource reconnect later.
    """

    def __init__(
        self, app: ASGIApp, settings: ApiSettings, retry_later: Callable[[], Response]
    ) -> None:
        self._app = app
        self._settings = settings
        self._retry_later = retry_later
        self._turns = TenantTurns(
            settings.max_tenant_requests, settings.max_tenant_waiting_requests
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in PROBES:
            await self._app(scope, receive, send)
            return
        turn = Turn(self._turns, tenant_or_empty(scope, self._settings), receive)
        try:
            await turn.begin()
        except RefusedError as error:
            refusal = problem(error.status, str(error), headers=error.headers)
            if _is_stream(scope):
                refusal = self._retry_later()
            await refusal(scope, receive, send)
            return
        turn.attach(scope)

        async def respond(message: Message) -> None:
            # A client that reads slowly holds no turn.
            turn.end()
            await send(message)

        try:
            await self._app(scope, turn.receive, respond)
        finally:
            turn.detach(scope)


def _is_stream(scope: Scope) -> bool:
    route = matching_route(scope)
    return isinstance(route, Operation) and route.is_stream
