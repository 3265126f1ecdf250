"""One stream for a page that shows many things."""

from starlette.requests import Request
from starlette.responses import Response

from tailrace_api.auth.tenancy import tenant_of
from tailrace_api.dialects.multiplex import multiplex
from tailrace_api.routes.streams.opening import LAST_EVENT_ID, Opening
from tailrace_api.routes.streams.topics import TOPICS, topics_of
from tailrace_api.web.operation import EVENT_STREAM, Answer, Operation
from tailrace_shared.settings import ApiSettings


class MultiplexRoutes:
    """The route of the multiplexed stream."""

    def __init__(self, settings: ApiSettings, opening: Opening) -> None:
        self._settings = settings
        self._opening = opening

    def routes(self) -> list[Operation]:
        """Return the routing table."""
        return [
            Operation(
                "GET",
                "/api/v1/sse/stream",
                self.stream,
                scope="executions:read",
                summary="Stream several topics over one connection",
                answers={200: Answer(str, "Their events, named by topic.", EVENT_STREAM)},
                parameters=(TOPICS, *LAST_EVENT_ID),
            )
        ]

    async def stream(self, request: Request) -> Response:
        """Stream topics."""
        tenant = tenant_of(request, self._settings)
        topics = topics_of(request, self._settings.max_stream_topics)
        return await self._opening.tenant(request, tenant, multiplex(topics))
