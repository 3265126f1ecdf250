"""Routes of a tenant's feed, and of several topics over one connection."""

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from tailrace_api.auth.tenancy import tenant_of
from tailrace_api.dialects.multiplex import multiplex
from tailrace_api.dialects.tenant_feed import TENANT_FEED
from tailrace_api.routes.streams.opening import LAST_EVENT_ID, Opening, refuses_in_band
from tailrace_api.routes.streams.topics import SINCE, TOPICS, topics_of
from tailrace_api.web.operation import EVENT_STREAM, Answer, operation
from tailrace_shared.settings import ApiSettings


@dataclass(frozen=True, slots=True)
class TenantStreamRoutes:
    """The routes of streams that cover a whole tenant."""

    settings: ApiSettings
    opening: Opening

    @operation(
        "GET",
        "/api/realtime/events",
        scope="executions:read",
        answers={200: Answer(str, "Events from now on.", EVENT_STREAM)},
        parameters=LAST_EVENT_ID,
    )
    @refuses_in_band
    async def feed(self, request: Request) -> Response:
        """Stream the progress of all executions, stage by stage."""
        tenant = tenant_of(request, self.settings)
        return await self.opening.tenant(request, tenant, TENANT_FEED)

    @operation(
        "GET",
        "/api/v1/sse/stream",
        scope="executions:read",
        answers={200: Answer(str, "Events of all topics, named by topic.", EVENT_STREAM)},
        parameters=(TOPICS, *SINCE, *LAST_EVENT_ID),
    )
    @refuses_in_band
    async def multiplexed(self, request: Request) -> Response:
        """Stream several topics over one connection."""
        tenant = tenant_of(request, self.settings)
        topics = topics_of(request, self.settings.max_stream_topics)
        return await self.opening.topics(request, tenant, multiplex(topics))
