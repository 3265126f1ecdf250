"""Tickets: what opens one stream from a page that can send no headers."""

from typing import Final
from urllib.parse import unquote, urlencode, urlsplit

import msgspec
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from tailrace_api.auth.gate import check_scope, is_stream, matched
from tailrace_api.auth.principal import principal_of
from tailrace_api.auth.tenancy import named_tenant
from tailrace_api.auth.tickets.tickets import Stream, Tickets
from tailrace_api.web.json_body import read_object, refuse_unknown
from tailrace_api.web.json_response import json_response
from tailrace_api.web.operation import Answer, Operation
from tailrace_api.web.problems import RefusedError
from tailrace_shared.execution.timestamps import format_timestamp
from tailrace_shared.settings import ApiSettings
from tailrace_shared.workflow.problems import Problem

_LONGEST_STREAM: Final = 4096
_CREDENTIALS: Final = frozenset({"authorization", "access_token", "ticket"})
_TENANT_PARAMETERS: Final = frozenset({"organization_id", "merchantId"})
_NO_STORE: Final = {"cache-control": "no-store"}


class TicketRequest(msgspec.Struct):
    """What a ticket is asked for.

    Attributes:
        stream: the path of the stream, with its query.
    """

    stream: str


class TicketDocument(msgspec.Struct):
    """A ticket.

    Attributes:
        ticket: to be sent as the parameter ``ticket``.
        url: the stream with all that it needs, for an EventSource.
        expires_at: until when the stream may be opened.
    """

    ticket: str
    url: str
    expires_at: str


class TicketRoutes:
    """The route that gives tickets."""

    def __init__(self, settings: ApiSettings, tickets: Tickets) -> None:
        self._settings = settings
        self._tickets = tickets

    def routes(self) -> list[Operation]:
        """Return the routing table."""
        return [
            Operation(
                "POST",
                "/api/v1/sse/tickets",
                self.post,
                scope="executions:read",
                summary="Get a ticket that opens one stream, for a client that can send no headers",
                answers={201: Answer(TicketDocument, "The ticket.")},
                problems=(422,),
                body=TicketRequest,
            ),
        ]

    async def post(self, request: Request) -> Response:
        """Give a ticket for a stream that the principal may read."""
        body = await read_object(request, self._settings.max_body_bytes)
        refuse_unknown(body, "stream")
        raw_path, query = _parts(body.get("stream"))
        path = unquote(raw_path)
        operation = _stream_at(request, path)
        principal = principal_of(request)
        if operation.scope is not None:
            check_scope(principal, operation.scope)
        parameters = QueryParams(query)
        tenant = named_tenant(request.headers, parameters, principal, self._settings)
        pairs = [pair for pair in parameters.multi_items() if pair[0].lower() not in _CREDENTIALS]
        if not _TENANT_PARAMETERS & parameters.keys():
            # The one that opens the stream has no header to name it with.
            pairs.append(("organization_id", tenant))
        stream = Stream.of(path, urlencode(pairs))
        ticket = self._tickets.issue(principal, tenant, operation.scope, stream)
        url = f"{raw_path}?{urlencode([*pairs, ('ticket', ticket.text)])}"
        document = TicketDocument(ticket.text, url, format_timestamp(ticket.expires_at))
        return json_response(document, 201, _NO_STORE)


def _parts(stream: object) -> tuple[str, str]:
    if not isinstance(stream, str) or len(stream) > _LONGEST_STREAM:
        raise _refused(f"stream is a path, with its query, of at most {_LONGEST_STREAM} characters")
    try:
        parts = urlsplit(stream)
    except ValueError:
        raise _refused("stream is not a path") from None
    if parts.scheme or parts.netloc or parts.fragment or not parts.path.startswith("/"):
        raise _refused("stream is a path of this API, without a host")
    if not (stream.isascii() and stream.isprintable()):
        raise _refused("stream is a path as it stands in a URL, in printable ASCII")
    return parts.path, parts.query


def _stream_at(request: Request, path: str) -> Operation:
    scope = {"type": "http", "method": "GET", "path": path, "root_path": "", "app": request.app}
    route = matched(scope)
    if not isinstance(route, Operation) or not is_stream(route):
        raise _refused("there is no stream that one could GET at this path")
    return route


def _refused(detail: str) -> RefusedError:
    return RefusedError(422, detail, [Problem("/stream", detail)])
