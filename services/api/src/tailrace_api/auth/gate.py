"""The gate in front of all routes: who asks, and whether they may."""

from collections.abc import Callable
from typing import Final

import structlog
from starlette.datastructures import Headers, QueryParams
from starlette.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Receive, Scope, Send

from tailrace_api.auth.credentials import Credentials, take_credentials
from tailrace_api.auth.errors import KeysUnavailableError, UnauthorizedError
from tailrace_api.auth.principal import Principal
from tailrace_api.auth.tenancy import checked_tenant
from tailrace_api.auth.tickets.tickets import Stream, Tickets
from tailrace_api.auth.tokens.verifier import Verifier
from tailrace_api.web.operation import EVENT_STREAM, Operation
from tailrace_api.web.problems import RefusedError, problem
from tailrace_shared.errors import InvalidIdError

_RETRY_AFTER: Final = {"retry-after": "1"}

_log = structlog.get_logger("tailrace.api.auth")


class Gate:
    """ASGI middleware around all routes. Without a verifier it only takes credentials out.

    Args:
        app: what is behind it.
        verifier: what checks tokens; None: nobody is asked for one.
        tickets: what checks tickets.
        later: the answer to an EventSource that shall come back.
    """

    def __init__(
        self,
        app: ASGIApp,
        verifier: Verifier | None,
        tickets: Tickets,
        later: Callable[[], Response],
    ) -> None:
        self._app = app
        self._verifier = verifier
        self._tickets = tickets
        self._later = later

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or say why not."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        credentials = take_credentials(scope)
        refusal = None
        if self._verifier is not None and (route := matched(scope)) is not None:
            refusal = await self._refusal(self._verifier, scope, credentials, route)
        if refusal is None:
            await self._app(scope, receive, send)
        else:
            await refusal(scope, receive, send)

    async def _refusal(
        self, verifier: Verifier, scope: Scope, credentials: Credentials, route: BaseRoute
    ) -> Response | None:
        if not isinstance(route, Operation):
            _log.error("a route that says nothing of who may call it", path=scope["path"])
            return problem(403, "nobody may call this")
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
            # An EventSource that is answered with an error never comes back.
            unavailable = problem(503, str(error), headers=_RETRY_AFTER)
            return self._later() if is_stream(route) else unavailable
        return None

    async def _principal(
        self, verifier: Verifier, scope: Scope, credentials: Credentials, route: Operation
    ) -> Principal:
        token, ticket = credentials.token_or_ticket()
        if not ticket:
            return await verifier.principal(token)
        if not is_stream(route) or scope["method"] != "GET":
            raise UnauthorizedError("a ticket opens streams only")
        query = scope["query_string"].decode("latin-1")
        return self._tickets.principal(ticket, Stream.of(scope["path"], query))


def matched(scope: Scope) -> BaseRoute | None:
    """Return the route that will serve a request, if there is one."""
    for route in scope["app"].routes:
        if route.matches(scope)[0] is Match.FULL:
            found: BaseRoute = route
            return found
    return None


def is_stream(operation: Operation) -> bool:
    """Tell whether what an operation answers is a stream."""
    return any(answer.media_type == EVENT_STREAM for answer in operation.answers.values())


def check_scope(principal: Principal, scope: str) -> None:
    """Check that a principal may do what needs a scope.

    Raises:
        RefusedError: it may not.
    """
    if not principal.may(scope):
        challenge = f'Bearer error="insufficient_scope", scope="{scope}"'
        raise RefusedError(
            403, f"the token lacks the scope {scope}", headers={"www-authenticate": challenge}
        )


def _check(scope: Scope, operation: Operation, principal: Principal) -> None:
    for wanted in operation.scopes:
        check_scope(principal, wanted)
    if operation.is_of_tenant:
        # Before anything else is looked at, whether or not the handler asks for the tenant.
        checked_tenant(Headers(scope=scope), QueryParams(scope["query_string"]), principal)


def _unauthorized(error: UnauthorizedError) -> Response:
    challenge = "Bearer"
    if error.is_invalid:
        description = str(error).replace('"', "'")
        challenge = f'Bearer error="invalid_token", error_description="{description}"'
    return problem(401, str(error), headers={"www-authenticate": challenge})
