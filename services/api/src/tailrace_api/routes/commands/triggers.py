"""Signals: triggers that resume whoever awaits them, and the steps that wait."""

from dataclasses import dataclass
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from tailrace_api.auth.tenancy import tenant_of
from tailrace_api.web.idempotency_key import IDEMPOTENCY_KEY, idempotency_key_of
from tailrace_api.web.json_body import read_object
from tailrace_api.web.json_response import json_response
from tailrace_api.web.operation import Answer, Parameter, operation
from tailrace_api.web.problems import RefusedError
from tailrace_api.web.query import LIMIT, limit_of, query_value
from tailrace_shared.commands.signals import Signals
from tailrace_shared.ids import is_valid_id
from tailrace_shared.settings import ApiSettings
from tailrace_shared.stores.indexes.waiting_index import Waiting, WaitingIndex
from tailrace_shared.subjects import check_procedure

_CURSOR: Final = Parameter(
    "cursor",
    Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}(\.[A-Za-z0-9_-]{1,64})?$")],
    "The `cursor` of the page before; the first page has none.",
)


class Matched(msgspec.Struct):
    """How many steps a trigger was given to."""

    matched: int


class WaitingList(msgspec.Struct):
    """Some steps that wait for a signal, those of the newest executions first.

    Attributes:
        cursor: where the next page begins; null: there is none.
    """

    waiting: list[Waiting]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class TriggerRoutes:
    """The routes by which events come in, and by which one sees who waits for them."""

    settings: ApiSettings
    signals: Signals
    waiting: WaitingIndex

    @operation(
        "POST",
        "/api/v1/triggers/{procedure}",
        scope="executions:write",
        answers={202: Answer(Matched, "It is stored, and in the logs of those steps.")},
        body=dict[str, Any],
        is_body_required=False,
        parameters=(IDEMPOTENCY_KEY,),
    )
    async def emit(self, request: Request) -> Response:
        """Send a trigger to every step that awaits it."""
        tenant = tenant_of(request, self.settings)
        procedure = check_procedure(request.path_params["procedure"])
        key = idempotency_key_of(request)
        body = await read_object(request, self.settings.max_body_bytes, if_empty={})
        matched = await self.signals.emit(tenant, procedure, body, key)
        return json_response(Matched(matched), 202)

    @operation(
        "GET",
        "/api/v1/waiting",
        scope="executions:read",
        answers={200: Answer(WaitingList, "A page of them.")},
        parameters=(LIMIT, _CURSOR),
    )
    async def list_waiting(self, request: Request) -> Response:
        """List the steps that wait for a signal."""
        tenant = tenant_of(request, self.settings)
        cursor = _cursor_of(request)
        page = await self.waiting.page(tenant, limit=limit_of(request), cursor=cursor)
        return json_response(WaitingList([each.masked for each in page.waiting], page.cursor))


def _cursor_of(request: Request) -> str | None:
    """Return the place at which the page before ended: an execution and a node of it."""
    text = query_value(request, "cursor")
    if text is not None and not all(is_valid_id(part) for part in text.split(".", 1)):
        raise RefusedError(400, f"cursor: {text[:80]!r} is not a cursor of this list")
    return text
