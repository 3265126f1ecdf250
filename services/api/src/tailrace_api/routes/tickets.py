"""Tickets, which open one stream for a client that cannot send headers."""

from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urlencode, urlsplit

import msgspec
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from tailrace_api.auth.authorization import check_scope
from tailrace_api.auth.principal import principal_of
from tailrace_api.auth.tenancy import named_tenant
from tailrace_api.auth.tickets.tickets import Stream, Tickets
from tailrace_api.web.json_body import read_object, refuse_unknown
from tailrace_api.web.json_response import json_response
from tailrace_api.web.operation import Answer, Operation, matching_route, operation
from tailrace_api.web.problems import unprocessable
from tailrace_shared.execution.timestamps import format_timestamp
from tailrace_shared.settings import ApiSettings

_MAX_STREAM_CHARS: Final = 4096
_CREDENTIALS: Final = frozenset({"authorization", "access_token", "ticket"})
_TENANT_PARAMETERS: Final = frozenset({"organization_id", "merchantId"})


class TicketRequest(msgspec.Struct):
    """A request for a ticket.

    Attributes:
        stream: The path and query of the stream.
    """

    stream: str


class TicketDocument(msgspec.Struct):
    """A ticket.

    Attributes:
        ticket: The value of the query parameter ``ticket``.
        url: The path and query that opens the stream, for an EventSource.
        expires_at: Until when the stream can be opened.
    """

    ticket: str
    url: str
    expires_at: str


@dataclass(frozen=True, slots=True)
class TicketRoutes:
    """The route that issues tickets."""

    settings: ApiSettings
    tickets: Tickets

    @operation(
        "POST",
        "/api/v1/sse/tickets",
        scope="executions:read",
        answers={201: Answer(TicketDocument, "The ticket.")},
        problems=(422,),
        body=TicketRequest,
    )
    async def post(self, request: Request) -> Response:
        """Issue a ticket that opens one stream, for a client that cannot send headers."""
        body = await read_object(request, self.settings.max_body_bytes)
        refuse_unknown(body, "stream")
        raw_path, query = _parts(body.get("stream"))
        path = unquote(raw_path)
        operation = _stream_at(request, path)
        principal = principal_of(request)
        if operation.scope is not None:
            check_scope(principal, operation.scope)
        parameters = QueryParams(query)
        tenant = named_tenant(request.headers, parameters, principal, self.settings)
        pairs = [pair for pair in parameters.multi_items() if pair[0].lower() not in _CREDENTIALS]
        if not _TENANT_PARAMETERS & parameters.keys():
            # The client that opens the stream cannot name it in a header.
            pairs.append(("organization_id", tenant))
        stream = Stream.of(path, urlencode(pairs))
        ticket = self.tickets.issue(principal, tenant, operation.scope, stream)
        url = f"{raw_path}?{urlencode([*pairs, ('ticket', ticket.text)])}"
        document = TicketDocument(ticket.text, url, format_timestamp(ticket.expires_at))
        return json_response(document, 201)


def _parts(stream: object) -> tuple[str, str]:
    if not isinstance(stream, str) or len(stream) > _MAX_STREAM_CHARS:
        raise unprocessable(
            "/stream",
            f"stream must be a path with a query, of at most {_MAX_STREAM_CHARS} characters",
        )
    try:
        parts = urlsplit(stream)
    except ValueError:
        raise unprocessable("/stream", "stream must be a path") from None
    if parts.scheme or parts.netloc or parts.fragment or not parts.path.startswith("/"):
        raise unprocessable("/stream", "stream must be a path of this API, without a host")
    if not (stream.isascii() and stream.isprintable()):
        raise unprocessable("/stream", "stream must be URL-encoded, in printable ASCII")
    return parts.path, parts.query


def _stream_at(request: Request, path: str) -> Operation:
    scope = {"type": "http", "method": "GET", "path": path, "root_path": "", "app": request.app}
    route = matching_route(scope)
    if not isinstance(route, Operation) or not route.is_stream:
        raise unprocessable("/stream", "there is no stream with the method GET at this path")
    return route
