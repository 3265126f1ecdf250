"""Triggers, and the steps that wait for a signal."""

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
    "The `cursor` of the previous page; absent for the first page.",
)


class Matched(msgspec.Struct, omit_defaults=True):
    """An accepted trigger.

    Attributes:
        matched: The number of steps that it has resumed so far.
        continues: Whether a worker delivers it to further steps; absent if all have it.
    """

    matched: int
    continues: bool = False


class WaitingList(msgspec.Struct):
    """A page of waiting steps, the newest waits first.

    Attributes:
        cursor: The cursor of the next page; null on the last page.
    """

    waiting: list[Waiting]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class TriggerRoutes:
    """The routes that receive triggers and list waiting steps."""

    settings: ApiSettings
    signals: Signals
    waiting: WaitingIndex

    @operation(
        "POST",
        "/api/v1/triggers/{procedure}",
        scope="executions:write",
        answers={
            202: Answer(
                Matched,
                "The trigger is stored. Every step that waits for it gets it.",
            )
        },
        body=dict[str, Any],
        is_body_required=False,
        parameters=(IDEMPOTENCY_KEY,),
    )
    async def emit(self, request: Request) -> Response:
        """Send a trigger to all steps that wait for it."""
        tenant = tenant_of(request, self.settings)
        procedure = check_procedure(request.path_params["procedure"])
        key = idempotency_key_of(request)
        body = await read_object(request, self.settings.max_body_bytes, if_empty={})
        delivery = await self.signals.send(tenant, procedure, body, key)
        return json_response(Matched(delivery.matched, delivery.continues), 202)

    @operation(
        "GET",
        "/api/v1/waiting",
        scope="executions:read",
        answers={200: Answer(WaitingList, "A page of the list.")},
        parameters=(LIMIT, _CURSOR),
    )
    async def list_waiting(self, request: Request) -> Response:
        """List the steps that wait for a signal."""
        tenant = tenant_of(request, self.settings)
        cursor = _cursor_of(request)
        page = await self.waiting.page(tenant, limit=limit_of(request), cursor=cursor)
        return json_response(WaitingList([each.masked for each in page.waiting], page.cursor))


def _cursor_of(request: Request) -> str | None:
    """Return the cursor of the previous page: an execution id and a node id."""
    text = query_value(request, "cursor")
    if text is not None and not all(is_valid_id(part) for part in text.split(".", 1)):
        raise RefusedError(400, f"cursor: {text[:80]!r} is not a cursor of this list")
    return text
