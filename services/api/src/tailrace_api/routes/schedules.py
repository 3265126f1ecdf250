"""Schedules: start runs by cron lines or at intervals."""

import asyncio
import re
import time
import zoneinfo
from dataclasses import dataclass
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from tailrace_api.auth.tenancy import tenant_of
from tailrace_api.web.json_body import read_object
from tailrace_api.web.json_response import json_response
from tailrace_api.web.operation import Answer, operation
from tailrace_api.web.problems import RefusedError, pointer, unprocessable
from tailrace_api.web.query import CURSOR, LIMIT, cursor_of, limit_of
from tailrace_shared.commands.run_input import InvalidInputError
from tailrace_shared.commands.run_starter import RunRequest, RunStarter
from tailrace_shared.errors import InvalidIdError, InvalidScheduleError, WorkflowNotFoundError
from tailrace_shared.execution.timestamps import format_timestamp
from tailrace_shared.ids import ID_PATTERN, check_id, new_execution_id
from tailrace_shared.recurrence import Cron, Every, parse_recurrence
from tailrace_shared.redact.masking import mask_value
from tailrace_shared.settings import ApiSettings
from tailrace_shared.stores.schedule_store import Schedule, ScheduleStore
from tailrace_shared.workflow.validation import Problem

_FIELDS: Final = ("id", "workflow_id", "cron", "time_zone", "input")
# NATS would take "Local", too: the zone of whichever machine it runs on.
_TIME_ZONE = re.compile(r"(?!Local\Z)[A-Za-z0-9_+/-]{1,64}")


class NewSchedule(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """A schedule as it is posted.

    Attributes:
        cron: a cron line of six fields, ``@every 5m``, or a name like ``@hourly``.
        id: its id; one that exists is replaced; a new one if it is left out.
        time_zone: the IANA time zone of a cron line; UTC if it is left out.
        input: the input of every run.
    """

    workflow_id: Annotated[str, Meta(pattern=ID_PATTERN)]
    cron: str
    id: Annotated[str, Meta(pattern=ID_PATTERN)] | None = None
    time_zone: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_+/-]{1,64}$")] | None = None
    input: Any = {}


class ScheduleDocument(msgspec.Struct):
    """What the API shows of a schedule.

    Attributes:
        next_at: when it fires next, where that can be told: the phase of an interval is NATS's.
    """

    id: str
    workflow_id: str
    cron: str
    time_zone: str | None
    input: Any
    created_at: str
    next_at: str | None


class ScheduleList(msgspec.Struct):
    """Some schedules, by id.

    Attributes:
        cursor: where the next page begins; null: there is none.
    """

    schedules: list[ScheduleDocument]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class ScheduleRoutes:
    """The routes under ``/api/v1/schedules``."""

    settings: ApiSettings
    schedules: ScheduleStore
    starter: RunStarter

    @operation(
        "POST",
        "/api/v1/schedules",
        scope="workflows:write",
        more_scopes=("executions:write",),
        answers={
            200: Answer(
                ScheduleDocument,
                "It has replaced the schedule with its id.",
                headers=("Location",),
            ),
            201: Answer(ScheduleDocument, "It is a new schedule.", headers=("Location",)),
        },
        body=NewSchedule,
    )
    async def post(self, request: Request) -> Response:
        """Start runs of a workflow by a cron line or at intervals."""
        tenant = tenant_of(request, self.settings)
        body = await read_object(request, self.settings.max_body_bytes)
        problems = [*_problems(body), *await self._run_problems(tenant, body)]
        if problems:
            raise RefusedError(422, "the schedule is not valid", problems)
        schedule = _schedule(body)
        is_known = await self.schedules.exists(tenant, schedule.id)
        try:
            await self.schedules.put(tenant, schedule)
        except InvalidScheduleError as error:
            raise unprocessable(pointer(error.field), str(error)) from None
        location = f"/api/v1/schedules/{schedule.id}"
        shown = await self._shown(tenant, schedule)
        return json_response(shown, 200 if is_known else 201, {"location": location})

    @operation(
        "GET",
        "/api/v1/schedules",
        scope="workflows:read",
        answers={200: Answer(ScheduleList, "A page of them.")},
        parameters=(LIMIT, CURSOR),
    )
    async def list_page(self, request: Request) -> Response:
        """List schedules by id."""
        tenant = tenant_of(request, self.settings)
        page = await self.schedules.page(tenant, limit=limit_of(request), cursor=cursor_of(request))
        schedules = await asyncio.gather(
            *(self._shown(tenant, schedule) for schedule in page.schedules)
        )
        return json_response(ScheduleList(schedules, page.cursor))

    @operation(
        "GET",
        "/api/v1/schedules/{schedule_id}",
        scope="workflows:read",
        answers={200: Answer(ScheduleDocument, "The schedule.")},
        problems=(404,),
    )
    async def get(self, request: Request) -> Response:
        """Show a schedule."""
        tenant, schedule_id = tenant_of(request, self.settings), _schedule_id(request)
        schedule = await self.schedules.get(tenant, schedule_id)
        return json_response(await self._shown(tenant, schedule))

    @operation(
        "DELETE",
        "/api/v1/schedules/{schedule_id}",
        scope="workflows:write",
        answers={204: Answer(None, "It has ended.")},
        problems=(404,),
    )
    async def delete(self, request: Request) -> Response:
        """End a schedule; its runs go on."""
        tenant, schedule_id = tenant_of(request, self.settings), _schedule_id(request)
        await self.schedules.delete(tenant, schedule_id)
        return Response(status_code=204)

    async def _shown(self, tenant: str, schedule: Schedule) -> ScheduleDocument:
        marks: list[str] = []
        if schedule.input:
            marks = await self.starter.sensitive_input(tenant, schedule.workflow_id, schedule.input)
        return _document(schedule, mask_value(schedule.input, marks))

    async def _run_problems(self, tenant: str, body: dict[str, Any]) -> list[Problem]:
        workflow_id = body.get("workflow_id")
        if not isinstance(workflow_id, str):
            return [Problem("/workflow_id", "workflow_id is the id of a workflow")]
        run_input = body.get("input", {})
        try:
            await self.starter.check(
                RunRequest(tenant, workflow_id, "input", run_input, body, None)
            )
        except (InvalidIdError, WorkflowNotFoundError) as error:
            return [Problem("/workflow_id", str(error))]
        except InvalidInputError as error:
            return list(error.problems)
        return []


def _problems(body: dict[str, Any]) -> list[Problem]:
    problems = [
        Problem(pointer(key), f"unknown field {key!r}") for key in body if key not in _FIELDS
    ]
    if body.get("id") is not None:
        problems += _id_problems(body["id"])
    cron, time_zone = body.get("cron"), body.get("time_zone")
    recurrence: Every | Cron | None = None
    if not isinstance(cron, str):
        detail = "cron is a cron line of six fields, '@every 5m' or a name like '@hourly'"
        problems.append(Problem("/cron", detail))
    else:
        try:
            recurrence = parse_recurrence(_normal(cron))
        except ValueError as error:
            problems.append(Problem("/cron", str(error)))
    if time_zone is None:
        return problems
    if not isinstance(time_zone, str) or _TIME_ZONE.fullmatch(time_zone) is None:
        detail = "time_zone is the name of an IANA time zone, like 'Europe/Vienna'"
        problems.append(Problem("/time_zone", detail))
    elif isinstance(recurrence, Every):
        problems.append(Problem("/time_zone", "an interval has no time zone"))
    return problems


def _id_problems(schedule_id: Any) -> list[Problem]:
    try:
        check_id(schedule_id if isinstance(schedule_id, str) else "", "schedule")
    except InvalidIdError as error:
        return [Problem("/id", str(error))]
    return []


def _schedule(body: dict[str, Any]) -> Schedule:
    return Schedule(
        id=body.get("id") or new_execution_id(),
        workflow_id=body["workflow_id"],
        cron=_normal(body["cron"]),
        time_zone=body.get("time_zone"),
        input=body.get("input", {}),
        created_at=time.time(),
    )


def _normal(pattern: str) -> str:
    # NATS takes no tabs, and an interval after one space only.
    return " ".join(pattern.split())


def _document(schedule: Schedule, shown_input: Any) -> ScheduleDocument:
    next_at = _next_at(schedule, time.time())
    return ScheduleDocument(
        schedule.id,
        schedule.workflow_id,
        schedule.cron,
        schedule.time_zone,
        shown_input,
        format_timestamp(schedule.created_at),
        None if next_at is None else format_timestamp(next_at),
    )


def _next_at(schedule: Schedule, now: float) -> float | None:
    recurrence = parse_recurrence(schedule.cron)
    if isinstance(recurrence, Every):
        return None
    try:
        zone = zoneinfo.ZoneInfo(schedule.time_zone or "UTC")
    except (zoneinfo.ZoneInfoNotFoundError, OSError, ValueError):
        return None  # a zone that NATS's machine knows and this one does not
    return recurrence.next(now, zone)


def _schedule_id(request: Request) -> str:
    return check_id(request.path_params["schedule_id"], "schedule")
