"""Authentication and authorization in front of all routes.

The middleware removes the credentials from a request, finds the route, and checks the token or
ticket, the declared scopes and the named organization. A route that declares no scope is closed.
"""

from collections.abc import Callable
from typing import Final

import structlog
from starlette.datastructures import Headers, QueryParams
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from tailrace_api.auth.credentials import Credentials, take_credentials
from tailrace_api.auth.errors import KeysUnavailableError, UnauthorizedError
from tailrace_api.auth.principal import Principal
from tailrace_api.auth.tenancy import checked_tenant
from tailrace_api.auth.tickets.tickets import Stream, Tickets
from tailrace_api.auth.tokens.verifier import Verifier
from tailrace_api.web.operation import Operation, matching_route
from tailrace_api.web.problems import RefusedError, problem
from tailrace_shared.errors import InvalidIdError

_RETRY_AFTER: Final = {"retry-after": "1"}

_log = structlog.get_logger("tailrace.api.auth")


class Authorization:
    """ASGI middleware that authenticates and authorizes requests.

    Args:
        verifier: Verifies tokens; None disables authentication, and only credentials are removed.
        retry_later: Returns the response that makes an EventSource reconnect later.
    """

    def __init__(
        self,
        app: ASGIApp,
        verifier: Verifier | None,
        tickets: Tickets,
        retry_later: Callable[[], Response],
    ) -> None:
        self._app = app
        self._verifier = verifier
        self._tickets = tickets
        self._retry_later = retry_later

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        credentials = take_credentials(scope)
        refusal = None
        if self._verifier is not None and (route := matching_route(scope)) is not None:
            refusal = await self._refusal(self._verifier, scope, credentials, route)
        if refusal is None:
            await self._app(scope, receive, send)
        else:
            await refusal(scope, receive, send)

    async def _refusal(
        self, verifier: Verifier, scope: Scope, credentials: Credentials, route: BaseRoute
    ) -> Response | None:
        if not isinstance(route, Operation):
            _log.error("route without a declared scope refused", path=scope["path"])
            return problem(403, "this route is closed")
        try:
            if route.scope is not None:
                principal = await self._principal(verifier, scope, credentials, route)
                _check(scope, route, principal)
                scope.setdefault("state", {})["principal"] = principal
        except RefusedError as error:
            return problem(error.status, str(error), headers=error.headers)
        except InvalidIdError as error:
            return problem(400, str(error))
        except UnauthorizedError as error:
            return _unauthorized(error)
        except KeysUnavailableError as error:
            # An EventSource that gets an error status never reconnects.
            unavailable = problem(503, str(error), headers=_RETRY_AFTER)
            return self._retry_later() if route.is_stream else unavailable
        return None

    async def _principal(
        self, verifier: Verifier, scope: Scope, credentials: Credentials, route: Operation
    ) -> Principal:
        token, ticket = credentials.token_or_ticket()
        if not ticket:
            return await verifier.principal(token)
        if not route.is_stream or scope["method"] != "GET":
            raise UnauthorizedError("a ticket opens only streams")
        query = scope["query_string"].decode("latin-1")
        return self._tickets.principal(ticket, Stream.of(scope["path"], query))


def check_scope(principal: Principal, scope: str) -> None:
    """Check that a principal has a scope.

    Raises:
        RefusedError: The scope is missing (403).
    """
    if not principal.may(scope):
        challenge = f'Bearer error="insufficient_scope", scope="{scope}"'
        raise RefusedError(
            403, f"the token lacks the scope {scope}", headers={"www-authenticate": challenge}
        )


def _check(scope: Scope, operation: Operation, principal: Principal) -> None:
    for required in operation.scopes:
        check_scope(principal, required)
    if operation.is_of_tenant:
        # Checked here, so that a handler that ignores the tenant is covered, too.
        checked_tenant(Headers(scope=scope), QueryParams(scope["query_string"]), principal)


def _unauthorized(error: UnauthorizedError) -> Response:
    challenge = "Bearer"
    if error.is_invalid:
        description = str(error).replace('"', "'")
        challenge = f'Bearer error="invalid_token", error_description="{description}"'
    return problem(401, str(error), headers={"www-authenticate": challenge})
