"""The feed of a tenant."""

from starlette.requests import Request
from starlette.responses import Response

from tailrace_api.auth.tenancy import tenant_of
from tailrace_api.dialects.tenant_feed import TENANT_FEED
from tailrace_api.routes.streams.opening import LAST_EVENT_ID, Opening
from tailrace_api.web.operation import EVENT_STREAM, Answer, Operation
from tailrace_shared.settings import ApiSettings


class FeedRoutes:
    """The route of the feed."""

    def __init__(self, settings: ApiSettings, opening: Opening) -> None:
        self._settings = settings
        self._opening = opening

    def routes(self) -> list[Operation]:
        """Return the routing table."""
        return [
            Operation(
                "GET",
                "/api/realtime/events",
                self.stream,
                scope="executions:read",
                summary="Stream how far all executions are, stage by stage",
                answers={200: Answer(str, "What happens from now on.", EVENT_STREAM)},
                parameters=LAST_EVENT_ID,
            )
        ]

    async def stream(self, request: Request) -> Response:
        """Stream what happens in a tenant."""
        tenant = tenant_of(request, self._settings)
        return await self._opening.tenant(request, tenant, TENANT_FEED)
