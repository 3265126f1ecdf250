"""Commands to schedules: pause, resume, run now, backfill."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from tailrace_api.auth.tenancy import tenant_of
from tailrace_api.routes.commands.command_body import flag_of
from tailrace_api.routes.executions import Accepted, accepted, location_of
from tailrace_api.routes.schedules import ScheduleDocument, ScheduleRoutes, schedule_id_of
from tailrace_api.web.idempotency_key import IDEMPOTENCY_KEY, idempotency_key_of
from tailrace_api.web.json_body import read_object, refuse_unknown
from tailrace_api.web.json_response import json_response
from tailrace_api.web.operation import Answer, operation
from tailrace_api.web.problems import unprocessable
from tailrace_api.web.query import moment_of
from tailrace_shared.commands.schedule_commands import MAX_BACKFILL, ScheduleCommands
from tailrace_shared.errors import InvalidScheduleError, ServiceError
from tailrace_shared.execution.timestamps import format_timestamp
from tailrace_shared.settings import ApiSettings
from tailrace_shared.stores.schedule_store import Schedule

F = TypeVar("F", bound=Callable[..., Any])

_AT_ONCE: Final = 16


class BackfillRange(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """The range of a backfill, at most 100 firings.

    Attributes:
        start: The beginning (RFC 3339); a firing at this time counts. An interval fires there.
        end: The end; a firing at this time does not count.
        dry_run: Whether only to list the firings.
    """

    start: str
    end: str
    dry_run: bool = False


class BackfillRow(msgspec.Struct):
    """A firing of a backfill.

    Attributes:
        execution_id: Its run; null in a dry run, or if the start was refused.
        error: Why the start was refused; null if it was not.
    """

    scheduled_at: str
    execution_id: str | None = None
    error: str | None = None


class BackfillAnswer(msgspec.Struct):
    """The firings of a backfill, in order."""

    dry_run: bool
    firings: list[BackfillRow]


def _state(name: str, description: str) -> Callable[[F], F]:
    return operation(
        "POST",
        f"/api/v1/schedules/{{schedule_id}}/{name}",
        scope="workflows:write",
        answers={200: Answer(ScheduleDocument, description)},
        problems=(404,),
    )


@dataclass(frozen=True, slots=True)
class ScheduleCommandRoutes:
    """The command routes under ``/api/v1/schedules/{schedule_id}``."""

    settings: ApiSettings
    documents: ScheduleRoutes
    commands: ScheduleCommands

    @_state("pause", "The schedule does not fire.")
    async def pause(self, request: Request) -> Response:
        """Pause a schedule: it does not fire until it is resumed."""
        tenant, schedule_id = tenant_of(request, self.settings), schedule_id_of(request)
        return await self._shown(tenant, await self.commands.pause(tenant, schedule_id))

    @_state("resume", "The schedule fires.")
    async def resume(self, request: Request) -> Response:
        """Resume a paused schedule. What it has missed is not made up; see backfill."""
        tenant, schedule_id = tenant_of(request, self.settings), schedule_id_of(request)
        try:
            return await self._shown(tenant, await self.commands.resume(tenant, schedule_id))
        except InvalidScheduleError as error:
            raise unprocessable("", str(error)) from None

    @operation(
        "POST",
        "/api/v1/schedules/{schedule_id}/run",
        scope="executions:write",
        more_scopes=("workflows:read",),
        answers={202: Answer(Accepted, "The run is recorded in the log.", headers=("Location",))},
        problems=(404, 422, 429),
        parameters=(IDEMPOTENCY_KEY,),
        summary="Start a run of a schedule now",
    )
    async def run(self, request: Request) -> Response:
        """Start a run of a schedule now, also while it is paused.

        The run obeys the overlap policy, like a firing.
        """
        tenant, schedule_id = tenant_of(request, self.settings), schedule_id_of(request)
        state = await self.commands.run(tenant, schedule_id, idempotency_key_of(request))
        return json_response(accepted(state), 202, {"location": location_of(state)})

    @operation(
        "POST",
        "/api/v1/schedules/{schedule_id}/backfill",
        scope="executions:write",
        more_scopes=("workflows:read",),
        answers={200: Answer(BackfillAnswer, "The firings, and the run of each of them.")},
        problems=(404,),
        body=BackfillRange,
        summary="Start the runs of a schedule in a range of time",
    )
    async def backfill(self, request: Request) -> Response:
        """Start the runs that a schedule would have started in a range of time.

        A firing is backfilled once a day: a repeated request finds its run. If the schedule has an
        overlap policy, the runs are queued.
        """
        tenant, schedule_id = tenant_of(request, self.settings), schedule_id_of(request)
        body = await read_object(request, self.settings.max_body_bytes)
        refuse_unknown(body, "start", "end", "dry_run")
        start, end, dry_run = _moment(body, "start"), _moment(body, "end"), flag_of(body, "dry_run")
        if end <= start:
            raise unprocessable("/end", "end must be later than start")
        schedule, found = await self.commands.firings(tenant, schedule_id, start, end)
        if found.has_more:
            limit = format_timestamp(found.moments[-1])
            detail = f"more than {MAX_BACKFILL} firings; end at {limit} and repeat the request"
            raise unprocessable("/end", detail)
        slots = asyncio.Semaphore(_AT_ONCE)

        async def row(moment: float) -> BackfillRow:
            firing = BackfillRow(format_timestamp(moment))
            if not dry_run:
                async with slots:
                    try:
                        state = await self.commands.backfill(tenant, schedule, moment)
                        firing.execution_id = state.execution_id
                    except ServiceError as error:
                        firing.error = str(error)
            return firing

        return json_response(
            BackfillAnswer(dry_run, list(await asyncio.gather(*map(row, found.moments))))
        )

    async def _shown(self, tenant: str, schedule: Schedule) -> Response:
        (document,) = await self.documents.shown(tenant, schedule)
        return json_response(document)


def _moment(body: dict[str, Any], name: str) -> float:
    value = body.get(name)
    moment = moment_of(value) if isinstance(value, str) else None
    if moment is None:
        detail = f"{name} must be an RFC 3339 time such as 2026-01-15T10:30:00Z"
        raise unprocessable(f"/{name}", detail)
    return moment
