"""Signals: triggers that resume whoever awaits them, and the steps that wait."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tailrace_api.idempotency_key import idempotency_key_of
from tailrace_api.json_body import read_object
from tailrace_api.json_response import json_response
from tailrace_api.problems import RefusedError
from tailrace_api.query import limit_of
from tailrace_api.tenancy import tenant_of
from tailrace_shared.ids import is_valid_id
from tailrace_shared.settings import ApiSettings
from tailrace_shared.signals import Signals
from tailrace_shared.subjects import check_procedure
from tailrace_shared.waiting_index import WaitingIndex


class TriggerRoutes:
    """The routes by which events come in, and by which one sees who waits for them."""

    def __init__(self, settings: ApiSettings, signals: Signals, waiting: WaitingIndex) -> None:
        self._settings = settings
        self._signals = signals
        self._waiting = waiting

    def routes(self) -> list[Route]:
        """Return the routing table."""
        return [
            Route("/api/v1/triggers/{procedure}", self.emit, methods=["POST"]),
            Route("/api/v1/waiting", self.list_waiting, methods=["GET"]),
        ]

    async def emit(self, request: Request) -> Response:
        """Send a trigger to every step of the tenant that awaits it."""
        tenant = tenant_of(request, self._settings)
        procedure = check_procedure(request.path_params["procedure"])
        key = idempotency_key_of(request)
        body = await read_object(request, self._settings.max_body_bytes, if_empty={})
        matched = await self._signals.emit(tenant, procedure, body, key)
        return json_response({"matched": matched}, 202)

    async def list_waiting(self, request: Request) -> Response:
        """List the steps that wait for a signal."""
        tenant = tenant_of(request, self._settings)
        cursor = _cursor_of(request)
        page = await self._waiting.page(tenant, limit=limit_of(request), cursor=cursor)
        return json_response({"waiting": page.waiting, "cursor": page.cursor})


def _cursor_of(request: Request) -> str | None:
    """Return the place at which the page before ended: an execution and a node of it."""
    text = request.query_params.get("cursor")
    if text is not None and not all(is_valid_id(part) for part in text.split(".", 1)):
        raise RefusedError(400, f"cursor: {text[:80]!r} is not a cursor of this list")
    return text
