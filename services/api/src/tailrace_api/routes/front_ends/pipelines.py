"""Pipelines: how workflows stand, as a stream, as a list, and one by one.

Paths and fields are those of existing front ends.
"""

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
from tailrace_api.routes.streams.opening import LAST_EVENT_ID, Opening
from tailrace_api.web.json_response import json_response
from tailrace_api.web.operation import EVENT_STREAM, Answer, Parameter, operation
from tailrace_api.web.problems import RefusedError
from tailrace_api.web.query import IDS, SOME_IDS, ids_of
from tailrace_shared.errors import WorkflowNotFoundError
from tailrace_shared.ids import check_id
from tailrace_shared.settings import ApiSettings

MOST_PIPELINES: Final = 200
"""Pipelines that one request may name."""

_PIPELINE_IDS: Final = Parameter(
    "pipelineIds",
    SOME_IDS,
    f"The pipelines, by commas, {MOST_PIPELINES} at the most.",
    is_required=True,
)
_VISIBLE: Final = Parameter(
    "visible",
    IDS,
    "Those of them whose updates are written at once, by commas; all, if it is left out. The "
    "others' updates may come a little later.",
)


class PipelineStatuses(msgspec.Struct, tag_field="type", tag="batch_update"):
    """How pipelines stand: what a stream of them would begin with.

    Attributes:
        timestamp: when, in milliseconds since the epoch.
        updates: how those stand that there are.
        errors: the ids that name no pipeline.
    """

    timestamp: int
    updates: list[PipelineUpdate]
    errors: list[PipelineError]


class LastRun(msgspec.Struct, rename="camel"):
    """The run of a pipeline that ended last.

    Attributes:
        ended_at: when (RFC 3339).
    """

    execution_id: str
    status: str
    ended_at: str


class PipelineHealth(msgspec.Struct, rename="camel"):
    """How one pipeline stands.

    Attributes:
        timestamp: when, in milliseconds since the epoch.
        runs: how many live runs have each status.
        last_run: None if none has ended.
    """

    pipeline_id: str
    status: PipelineStatus
    timestamp: int
    runs: dict[str, int]
    last_run: LastRun | None


@dataclass(frozen=True, slots=True)
class PipelineRoutes:
    """The routes of front ends that call workflows pipelines."""

    settings: ApiSettings
    opening: Opening
    snapshots: Snapshots

    @operation(
        "GET",
        "/ui-api/pipeline/status/stream",
        scope="executions:read",
        answers={200: Answer(str, "How they stand, then every change.", EVENT_STREAM)},
        problems=(400,),
        parameters=(_PIPELINE_IDS, _VISIBLE, *LAST_EVENT_ID),
    )
    async def stream(self, request: Request) -> Response:
        """Stream how pipelines stand, whenever that changes."""
        tenant, named = tenant_of(request, self.settings), _named(request)
        dialect = Pipelines(frozenset(named), _visible(request, named))
        return await self.opening.tenant(request, tenant, dialect)

    @operation(
        "GET",
        "/ui-api/pipeline/status",
        scope="executions:read",
        answers={200: Answer(PipelineStatuses, "How they stand.")},
        problems=(400,),
        parameters=(_PIPELINE_IDS,),
    )
    async def status(self, request: Request) -> Response:
        """Tell how pipelines stand."""
        tally, _ = await self._tally(request, _named(request))
        now = _now()
        return json_response(PipelineStatuses(now, tally.updates(), tally.errors(now)))

    @operation(
        "GET",
        "/pipeline/{pipeline_id}/health",
        scope="executions:read",
        answers={200: Answer(PipelineHealth, "How it stands.")},
        problems=(400, 404),
    )
    async def health(self, request: Request) -> Response:
        """Tell how one pipeline stands."""
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
        snapshot = (await self.snapshots.load(tenant, dialect.wants)).snapshot
        return dialect.begin(snapshot), snapshot


def _named(request: Request) -> list[str]:
    named = ids_of(request, "pipelineIds", MOST_PIPELINES)
    if not named:
        raise RefusedError(400, "pipelineIds: name one pipeline at least; separate ids by commas")
    return named


def _visible(request: Request, named: list[str]) -> frozenset[str] | None:
    if "visible" not in request.query_params:
        return None
    visible = frozenset(ids_of(request, "visible", MOST_PIPELINES)).intersection(named)
    # Streams that say the same are one, however they say it.
    return None if len(visible) == len(named) else visible


def _now() -> int:
    return int(time.time() * 1000)
