"""The caller of a request, and the limits of the server, for pages."""

import time
from dataclasses import dataclass
from importlib.metadata import version
from typing import Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from tailrace_api.auth.principal import principal_of
from tailrace_api.auth.tenancy import tenant_of
from tailrace_api.routes.front_ends.pipelines import MAX_PIPELINES
from tailrace_api.web.json_response import json_response
from tailrace_api.web.operation import Answer, operation
from tailrace_shared.execution.timestamps import format_timestamp
from tailrace_shared.settings import ApiSettings
from tailrace_shared.workflow.definition import MAX_TAGS
from tailrace_shared.workflow.validation import MAX_BYTES, MAX_NODES


class Limits(msgspec.Struct):
    """Limits that a page must keep.

    Attributes:
        max_stream_topics: The number of topics of one stream.
        max_pipeline_ids: The number of pipelines of one stream.
        max_url_bytes: The length of a URL.
        max_body_bytes: The size of a request body.
        max_definition_bytes: The size of a definition, as JSON.
        max_nodes: The number of nodes of a definition.
        max_tags: The number of tags of a run.
        max_runs_per_minute: The number of runs that may be started within a minute; 0 for no limit.
        max_messages_per_minute: The number of messages to the feed; 0 for no limit.
    """

    max_stream_topics: int
    max_pipeline_ids: int
    max_url_bytes: int
    max_body_bytes: int
    max_definition_bytes: int
    max_nodes: int
    max_tags: int
    max_runs_per_minute: int
    max_messages_per_minute: int


class Me(msgspec.Struct):
    """The caller, and what the server allows.

    Attributes:
        subject: The subject of the token; empty without authentication.
        organization: The organization of this request.
        organizations: The organizations of the token; null for all.
        scopes: The scopes of the token; null for all.
        expires_at: When the token expires; null for never.
        auth: How callers are authenticated.
        version: The version of the server.
        server_time: The time of the server.
        heartbeat_ms: After how many milliseconds of silence a stream sends a heartbeat.
    """

    subject: str
    organization: str
    organizations: list[str] | None
    scopes: list[str] | None
    expires_at: str | None
    auth: Literal["none", "jwt"]
    version: str
    server_time: str
    heartbeat_ms: int
    limits: Limits


@dataclass(frozen=True, slots=True)
class MeRoutes:
    """The route of the caller."""

    settings: ApiSettings

    @operation(
        "GET",
        "/api/v1/me",
        scope="executions:read",
        answers={200: Answer(Me, "The caller.")},
    )
    async def me(self, request: Request) -> Response:
        """Show the caller, the organization of the request, and the limits of the server."""
        principal, settings = principal_of(request), self.settings
        held, scopes, expires = principal.organizations, principal.scopes, principal.expires_at
        return json_response(
            Me(
                subject=principal.subject,
                organization=tenant_of(request, settings),
                organizations=None if held is None else sorted(held),
                scopes=None if scopes is None else sorted(scopes),
                expires_at=None if expires is None else format_timestamp(expires),
                auth=settings.auth,
                version=version("tailrace-api"),
                server_time=format_timestamp(time.time()),
                heartbeat_ms=round(float(settings.heartbeat) * 1000),
                limits=Limits(
                    max_stream_topics=settings.max_stream_topics,
                    max_pipeline_ids=MAX_PIPELINES,
                    max_url_bytes=settings.max_url_bytes,
                    max_body_bytes=settings.max_body_bytes,
                    max_definition_bytes=MAX_BYTES,
                    max_nodes=MAX_NODES,
                    max_tags=MAX_TAGS,
                    max_runs_per_minute=settings.max_runs_per_minute,
                    max_messages_per_minute=settings.max_messages_per_minute,
                ),
            )
        )
