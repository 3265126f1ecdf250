"""Commands to all executions that match a filter."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from tailrace_api.auth.tenancy import actor_of, tenant_of
from tailrace_api.routes.commands.command_body import (
    ReasonText,
    Version,
    flag_of,
    reason_of,
    version_of,
)
from tailrace_api.web.idempotency_key import IDEMPOTENCY_KEY, idempotency_key_of
from tailrace_api.web.json_body import read_object, refuse_unknown
from tailrace_api.web.json_response import json_response
from tailrace_api.web.operation import Answer, operation
from tailrace_api.web.problems import unprocessable
from tailrace_api.web.query import moment_of
from tailrace_shared.commands.execution_commands import Caller, ExecutionCommands
from tailrace_shared.commands.run_input import InvalidInputError
from tailrace_shared.commands.run_starter import RunStarter
from tailrace_shared.errors import ServiceError
from tailrace_shared.execution.summary import RunSummary
from tailrace_shared.execution.transitions import TERMINAL_STATUSES, ExecutionStatus
from tailrace_shared.ids import ID_PATTERN, is_valid_id
from tailrace_shared.settings import ApiSettings
from tailrace_shared.stores.run_list import RunList
from tailrace_shared.stores.run_query import RunQuery

_MAX_RUNS: Final = 200
_DEFAULT_RUNS: Final = 100
_AT_ONCE: Final = 16
# What has not begun by then is left to the next request, so that the client gets an answer.
_BEGIN_WITHIN_S: Final = 6.0
_LIVE: Final = ("running", "paused", "queued")
_IDS: Final = ("workflow_id", "tag", "parent", "q")
_TIMES: Final = ("created_after", "created_before")

_Id = Annotated[str, Meta(pattern=ID_PATTERN)]
_Limit = Annotated[int, Meta(ge=1, le=_MAX_RUNS)]


class RunFilter(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """A filter of runs; a run must match all its fields.

    Attributes:
        status: The status of the runs.
        created_after: Only runs created at this time (RFC 3339) or later.
        created_before: Only runs created before this time.
        q: Only runs whose id, or whose workflow's id, contains this text.
    """

    workflow_id: _Id | None = None
    status: ExecutionStatus | None = None
    tag: _Id | None = None
    parent: _Id | None = None
    created_after: str | None = None
    created_before: str | None = None
    q: _Id | None = None


class BulkCancel(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """A cancellation of all runs that match a filter and have not ended.

    Attributes:
        dry_run: Whether only to list the runs.
        limit: The maximum number of runs; 100 by default.
        reason: The reason, recorded in the logs.
    """

    filter: RunFilter
    dry_run: bool = False
    limit: _Limit = _DEFAULT_RUNS
    reason: ReasonText | None = None


class BulkRerun(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """Reruns of all runs that match a filter, which must be ended. Without a status: failed ones.

    Attributes:
        dry_run: Whether only to list the runs, and why one could not be run again.
        limit: The maximum number of runs; 100 by default.
        cursor: The cursor of the preceding answer.
        failed: Whether only the steps that have not succeeded run again.
        version: The version of the workflow to run.
    """

    filter: RunFilter
    dry_run: bool = False
    limit: _Limit = _DEFAULT_RUNS
    cursor: _Id | None = None
    failed: bool = False
    version: Version | None = None


class BulkRow(msgspec.Struct):
    """A run that a bulk command has matched.

    Attributes:
        status: Its status, as far as the list of runs knows.
        error: Why the command was refused; null if it was accepted, or would be.
        rerun: The new run; null in a dry run, for a refused rerun, and for a cancellation.
    """

    execution_id: str
    workflow_id: str
    status: ExecutionStatus
    error: str | None = None
    rerun: str | None = None


class BulkAnswer(msgspec.Struct):
    """The result of a bulk command.

    Attributes:
        executions: The runs that it has matched, newest first.
        more: Whether there may be further runs that match.
        cursor: The cursor for further reruns; null if there are none, and for cancellations, which
            are simply repeated.
    """

    dry_run: bool
    executions: list[BulkRow]
    more: bool
    cursor: str | None


_Command = Callable[[RunSummary], Awaitable[str | None]]


@dataclass(frozen=True, slots=True)
class BulkRoutes:
    """The routes of commands to many executions."""

    settings: ApiSettings
    runs: RunList
    commands: ExecutionCommands
    starter: RunStarter

    @operation(
        "POST",
        "/api/v1/executions/cancel",
        scope="executions:write",
        more_scopes=("executions:read",),
        answers={200: Answer(BulkAnswer, "The runs, and the result for each of them.")},
        body=BulkCancel,
        parameters=(IDEMPOTENCY_KEY,),
        summary="Cancel all runs that match a filter",
    )
    async def cancel(self, request: Request) -> Response:
        """Cancel all runs that match a filter, at most ``limit`` of them.

        While ``more`` is true, repeat the request to cancel the others.
        """
        tenant, by = self._caller(request)
        body = await self._body(request, "filter", "dry_run", "limit", "reason")
        query, limit, reason = _query(body), _limit(body), reason_of(body)
        if query.status in TERMINAL_STATUSES:
            raise unprocessable("/filter/status", f"a run that is {query.status} has ended")
        found: list[RunSummary] = []
        more = False
        for status in _LIVE if query.status is None else (query.status,):
            wanted = query._replace(status=status)
            page = await self.runs.page(tenant, wanted, limit=limit - len(found) or 1)
            more = more or page.cursor is not None or len(found) + len(page.runs) > limit
            found = [*found, *page.runs][:limit]

        async def cancel(run: RunSummary) -> None:
            await self.commands.cancel(tenant, run.execution_id, reason, by)

        async def check(_run: RunSummary) -> None:
            """Nothing can refuse the cancellation of a run that has not ended."""

        dry_run = flag_of(body, "dry_run")
        rows = await _for_each(found, check if dry_run else cancel)
        return json_response(BulkAnswer(dry_run, rows, more, None))

    @operation(
        "POST",
        "/api/v1/executions/rerun",
        scope="executions:write",
        more_scopes=("executions:read",),
        answers={200: Answer(BulkAnswer, "The runs, and the result for each of them.")},
        body=BulkRerun,
        parameters=(IDEMPOTENCY_KEY,),
        summary="Run all runs again that match a filter",
    )
    async def rerun(self, request: Request) -> Response:
        """Run all runs again that match a filter, at most ``limit`` of them.

        With the same ``Idempotency-Key``, a repeated request runs nothing twice.
        """
        tenant, by = self._caller(request)
        body = await self._body(
            request, "filter", "dry_run", "limit", "cursor", "failed", "version"
        )
        query, limit = _query(body), _limit(body)
        failed, version = flag_of(body, "failed"), version_of(body)
        query = query._replace(status=query.status or "failed")
        if query.status not in TERMINAL_STATUSES:
            raise unprocessable("/filter/status", f"a run that is {query.status} has not ended")
        page = await self.runs.page(tenant, query, limit=limit, cursor=_cursor(body))

        async def rerun(run: RunSummary) -> str:
            state = await self.starter.rerun(
                tenant, run.execution_id, None, by.key, failed=failed, version=version
            )
            return state.execution_id

        async def check(run: RunSummary) -> None:
            await self.starter.check_rerun(tenant, run.execution_id, version=version)

        dry_run = flag_of(body, "dry_run")
        rows = await _for_each(page.runs, check if dry_run else rerun)
        return json_response(BulkAnswer(dry_run, rows, page.cursor is not None, page.cursor))

    def _caller(self, request: Request) -> tuple[str, Caller]:
        by = Caller(actor_of(request), idempotency_key_of(request))
        return tenant_of(request, self.settings), by

    async def _body(self, request: Request, *known: str) -> dict[str, Any]:
        body = await read_object(request, self.settings.max_body_bytes)
        refuse_unknown(body, *known)
        return body


async def _for_each(runs: list[RunSummary], command: _Command) -> list[BulkRow]:
    """Send a command to each run, a few at a time; return the results in order."""
    slots, begin_by = asyncio.Semaphore(_AT_ONCE), time.monotonic() + _BEGIN_WITHIN_S

    async def result(run: RunSummary) -> BulkRow:
        row = BulkRow(run.execution_id, run.workflow_id, run.status)
        async with slots:
            if time.monotonic() > begin_by:
                row.error = "not done in time; repeat the request"
                return row
            try:
                row.rerun = await command(run)
            except InvalidInputError as error:
                row.error = "; ".join(f"{each.pointer}: {each.detail}" for each in error.problems)
            except ServiceError as error:
                row.error = str(error)
        return row

    return list(await asyncio.gather(*map(result, runs)))


def _query(body: dict[str, Any]) -> RunQuery:
    given = body.get("filter")
    if not isinstance(given, dict):
        raise unprocessable("/filter", "filter must be an object, {} for all runs")
    refuse_unknown(given, *_IDS, *_TIMES, "status", within="/filter")
    for name in _IDS:
        value = given.get(name)
        if value is not None and not (isinstance(value, str) and is_valid_id(value)):
            detail = f"{name} must be 1 to 64 letters, digits, '_' or '-'"
            raise unprocessable(f"/filter/{name}", detail)
    times = {name: _moment(given, name) for name in _TIMES}
    return RunQuery(
        workflow=given.get("workflow_id"),
        status=_status(given.get("status")),
        tag=given.get("tag"),
        parent=given.get("parent"),
        text=given.get("q"),
        **times,
    )


def _moment(given: dict[str, Any], name: str) -> float | None:
    value = given.get(name)
    if value is None:
        return None
    moment = moment_of(value) if isinstance(value, str) else None
    if moment is None:
        detail = f"{name} must be an RFC 3339 time such as 2026-01-15T10:30:00Z"
        raise unprocessable(f"/filter/{name}", detail)
    return moment


def _status(value: Any) -> str | None:
    if value is not None and value not in (*_LIVE, *TERMINAL_STATUSES):
        detail = f"status must be one of {', '.join((*_LIVE, *sorted(TERMINAL_STATUSES)))}"
        raise unprocessable("/filter/status", detail)
    return value if isinstance(value, str) else None


def _limit(body: dict[str, Any]) -> int:
    value = body.get("limit", _DEFAULT_RUNS)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MAX_RUNS:
        raise unprocessable("/limit", f"limit must be a number from 1 to {_MAX_RUNS}")
    return value


def _cursor(body: dict[str, Any]) -> str | None:
    value = body.get("cursor")
    if value is not None and not (isinstance(value, str) and is_valid_id(value)):
        raise unprocessable("/cursor", "cursor must be that of the preceding answer")
    return value
