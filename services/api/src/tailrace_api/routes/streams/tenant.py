"""Routes of a tenant's feed, of messages to it, and of several topics over one connection."""

import re
import time
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from tailrace_api.auth.tenancy import tenant_of
from tailrace_api.dialects.multiplex import multiplex
from tailrace_api.dialects.tenant_feed import TENANT_FEED
from tailrace_api.fanout.hub import Hub
from tailrace_api.routes.streams.opening import LAST_EVENT_ID, Opening, refuses_in_band
from tailrace_api.routes.streams.topics import SINCE, TOPICS, topics_of
from tailrace_api.web.json_body import read_object
from tailrace_api.web.json_response import json_response
from tailrace_api.web.operation import EVENT_STREAM, Answer, operation
from tailrace_api.web.problems import RefusedError, unprocessable
from tailrace_shared.commands.start_rate_limit import MessageRateLimit
from tailrace_shared.commands.time_limit import within_limit
from tailrace_shared.position import StreamPosition
from tailrace_shared.settings import ApiSettings
from tailrace_shared.stores.feed_messages import MAX_MESSAGE_BYTES, FeedMessages

_TYPE: Final = r"^[A-Za-z][A-Za-z0-9_-]{0,63}$"


class Message(msgspec.Struct, omit_defaults=True):
    """A message to the feed. Further fields are sent as they are.

    Attributes:
        type: The name of its block, for example ``progress``.
    """

    type: Annotated[str, Meta(pattern=_TYPE)]


class Published(msgspec.Struct):
    """A stored message.

    Attributes:
        event_id: The id of its block in the feed.
    """

    event_id: str


@dataclass(frozen=True, slots=True)
class TenantStreamRoutes:
    """The routes of streams that cover a whole tenant."""

    settings: ApiSettings
    hub: Hub
    opening: Opening
    messages: FeedMessages
    rate_limit: MessageRateLimit | None

    @operation(
        "POST",
        "/api/realtime/publish",
        scope="executions:write",
        answers={202: Answer(Published, "The message is in the log.")},
        problems=(413, 429),
        body=Message,
    )
    @within_limit
    async def publish(self, request: Request) -> Response:
        """Publish a message to the feed of the tenant."""
        tenant = tenant_of(request, self.settings)
        message = await read_object(request, self.settings.max_body_bytes)
        name = message.get("type")
        if not (isinstance(name, str) and re.fullmatch(_TYPE.strip("^$"), name)):
            raise unprocessable(
                "/type", "type must be 1 to 64 letters, digits, '_' or '-', and begin with a letter"
            )
        if (size := len(msgspec.json.encode(message))) > MAX_MESSAGE_BYTES:
            raise RefusedError(
                413, f"the message is {size} bytes of JSON; the limit is {MAX_MESSAGE_BYTES}"
            )
        if self.rate_limit is not None:
            await self.rate_limit.consume(tenant)
        sequence = await self.messages.publish(tenant, message, time.time())
        event_id = str(StreamPosition(self.hub.runtime.epoch, sequence, 0))
        return json_response(Published(event_id), 202)

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
