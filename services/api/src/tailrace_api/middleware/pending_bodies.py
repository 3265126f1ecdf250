"""Count the bodies of requests against the limits of their tenant and of the process."""

from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tailrace_api.auth.tenancy import tenant_or_empty
from tailrace_api.http.protocol import protocol_of
from tailrace_api.web.body_budget import BodyBudget, PendingBody
from tailrace_shared.process.fair_threads import FairThreads
from tailrace_shared.settings import ApiSettings

_WITHOUT_BODY: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class PendingBodies:
    """ASGI middleware that counts bodies. It must be inside of the authorization."""

    def __init__(self, app: ASGIApp, settings: ApiSettings, threads: FairThreads) -> None:
        self._app = app
        self._settings = settings
        # A body of the largest size must be possible.
        least = settings.max_body_bytes
        self._budget = BodyBudget(
            max(settings.max_pending_body_bytes, least),
            max(settings.max_tenant_pending_body_bytes, least),
            threads,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in _WITHOUT_BODY:
            await self._app(scope, receive, send)
            return
        body = PendingBody(self._budget, tenant_or_empty(scope, self._settings), receive)
        body.attach(scope)

        async def respond(message: Message) -> None:
            # A stream may last for hours.
            body.release()
            if not body.is_complete and (protocol := protocol_of(scope)) is not None:
                protocol.linger_on_close()
            await send(message)

        try:
            await self._app(scope, body.receive, respond)
        finally:
            body.release()
