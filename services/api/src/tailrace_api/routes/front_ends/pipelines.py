"""The status of workflows, called pipelines by existing front ends, which define the format."""

import time
from dataclasses import dataclass
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from tailrace_api.auth.tenancy import tenant_of
from tailrace_api.dialects.pipeline_status import (
    PipelineError,
    Pipelines,
    PipelineStatus,
    PipelineUpdate,
    RunCounts,
)
from tailrace_api.dialects.snapshot import Snapshot
from tailrace_api.fanout.tenants.snapshots import Snapshots
from tailrace_api.routes.streams.opening import LAST_EVENT_ID, Opening, refuses_in_band
from tailrace_api.web.json_response import json_response
from tailrace_api.web.operation import EVENT_STREAM, Answer, Parameter, operation
from tailrace_api.web.problems import RefusedError
from tailrace_api.web.query import IDS, SOME_IDS, ids_of
from tailrace_shared.errors import WorkflowNotFoundError
from tailrace_shared.ids import check_id
from tailrace_shared.settings import ApiSettings

MAX_PIPELINES: Final = 200
"""The maximum number of pipelines in one request."""

_PIPELINE_IDS: Final = Parameter(
    "pipelineIds",
    SOME_IDS,
    f"The ids of up to {MAX_PIPELINES} pipelines, separated by commas.",
    is_required=True,
)
_VISIBLE: Final = Parameter(
    "visible",
    IDS,
    "The ids of pipelines that are visible to the user; all by default. Updates of the others may "
    "be delayed a little.",
)


class PipelineStatuses(msgspec.Struct, tag_field="type", tag="batch_update"):
    """The status of pipelines, like the first event of their stream.

    Attributes:
        timestamp: The time in milliseconds since the epoch.
        updates: The status of each existing pipeline.
        errors: The ids without a pipeline.
    """

    timestamp: int
    updates: list[PipelineUpdate]
    errors: list[PipelineError]


class LastRun(msgspec.Struct, rename="camel"):
    """The most recently finished run of a pipeline.

    Attributes:
        ended_at: The time (RFC 3339).
    """

    execution_id: str
    status: str
    ended_at: str


class PipelineHealth(msgspec.Struct, rename="camel"):
    """The health of one pipeline.

    Attributes:
        timestamp: The time in milliseconds since the epoch.
        runs: The number of live runs by status.
        last_run: The most recently finished run; null if there is none.
    """

    pipeline_id: str
    status: PipelineStatus
    timestamp: int
    runs: dict[str, int]
    last_run: LastRun | None


@dataclass(frozen=True, slots=True)
class PipelineRoutes:
    """The routes of pipeline status."""

    settings: ApiSettings
    opening: Opening
    snapshots: Snapshots

    @operation(
        "GET",
        "/ui-api/pipeline/status/stream",
        scope="executions:read",
        answers={200: Answer(str, "The current status, then every change.", EVENT_STREAM)},
        problems=(400,),
        parameters=(_PIPELINE_IDS, _VISIBLE, *LAST_EVENT_ID),
    )
    @refuses_in_band
    async def stream(self, request: Request) -> Response:
        """Stream the status of pipelines, and every change."""
        tenant = tenant_of(request, self.settings)
        return await self.opening.tenant(request, tenant, _dialect(request))

    @operation(
        "GET",
        "/ui-api/pipeline/status",
        scope="executions:read",
        answers={200: Answer(PipelineStatuses, "The status of the pipelines.")},
        problems=(400,),
        parameters=(_PIPELINE_IDS,),
    )
    async def status(self, request: Request) -> Response:
        """Show the status of pipelines."""
        tally, _ = await self._tally(request, _named(request))
        now = _now()
        return json_response(PipelineStatuses(now, tally.updates(), tally.errors(now)))

    @operation(
        "GET",
        "/pipeline/{pipeline_id}/health",
        scope="executions:read",
        answers={200: Answer(PipelineHealth, "The health of the pipeline.")},
        problems=(400, 404),
    )
    async def health(self, request: Request) -> Response:
        """Show the health of one pipeline."""
        name = check_id(request.path_params["pipeline_id"], "pipeline")
        tally, snapshot = await self._tally(request, [name])
        status = tally.status(name)
        if status is None or name in tally.missing:
            raise WorkflowNotFoundError(f"there is no pipeline {name!r}")
        ended = snapshot.ended.get(name)
        last_run = LastRun(ended.execution_id, ended.status, ended.at) if ended else None
        runs = dict(tally.runs(name))
        return json_response(PipelineHealth(name, status, _now(), runs, last_run))

    async def _tally(self, request: Request, named: list[str]) -> tuple[RunCounts, Snapshot]:
        tenant, dialect = tenant_of(request, self.settings), Pipelines(frozenset(named))
        snapshot = (await self.snapshots.load(tenant, dialect.snapshot_query)).snapshot
        return dialect.begin(snapshot), snapshot


def _named(request: Request) -> list[str]:
    named = ids_of(request, "pipelineIds", MAX_PIPELINES)
    if not named:
        raise RefusedError(400, "pipelineIds: list at least one id; separate ids by commas")
    return named


def _dialect(request: Request) -> Pipelines:
    pipelines = frozenset(_named(request))
    if "visible" not in request.query_params:
        return Pipelines(pipelines)
    listed = frozenset(ids_of(request, "visible", MAX_PIPELINES))
    # Equal selections must share one topic of the hub, however they are written.
    visible = None if pipelines <= listed else listed & pipelines
    return Pipelines(pipelines, visible, listed - pipelines)


def _now() -> int:
    return int(time.time() * 1000)
