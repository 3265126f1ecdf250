"""Routes to start, list and show runs. Paths under ``/executions`` need no workflow id."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final, TypeVar, get_args

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from tailrace_api.auth.tenancy import tenant_of
from tailrace_api.documents.run_document import (
    LogEntry,
    RunDocument,
    log_entries,
    output_bytes,
    run_document,
    wanted_outputs,
)
from tailrace_api.web.idempotency_key import IDEMPOTENCY_KEY, idempotency_key_of
from tailrace_api.web.json_body import read_object, refuse_unknown
from tailrace_api.web.json_response import json_response
from tailrace_api.web.operation import Answer, Parameter, operation
from tailrace_api.web.problems import RefusedError
from tailrace_api.web.query import CURSOR, LIMIT, cursor_of, limit_of, query_value, time_of
from tailrace_shared.commands.run_starter import RunRequest, RunStarter
from tailrace_shared.errors import (
    ExecutionNotFoundError,
    OutputNotFoundError,
    WorkflowNotFoundError,
)
from tailrace_shared.estimation import Estimator
from tailrace_shared.execution.events import Origin
from tailrace_shared.execution.state import ExecutionState
from tailrace_shared.execution.summary import RunSummary
from tailrace_shared.execution.transitions import ExecutionStatus
from tailrace_shared.ids import ID_PATTERN, check_id
from tailrace_shared.json_pointer import join_pointer
from tailrace_shared.nats.catch_up import until_caught_up
from tailrace_shared.redact.masking import mask_value
from tailrace_shared.settings import ApiSettings
from tailrace_shared.stores.estimator_cache import EstimatorCache
from tailrace_shared.stores.execution_log import ExecutionLog
from tailrace_shared.stores.output_store import OutputStore
from tailrace_shared.stores.run_list import RunList as RunPages
from tailrace_shared.stores.run_query import RunQuery
from tailrace_shared.stores.workflow_store import WorkflowStore
from tailrace_shared.workflow.definition import MAX_TAGS, Definition
from tailrace_shared.workflow.validation import Problem, tag_problems

F = TypeVar("F", bound=Callable[..., Any])

Tag = Annotated[str, Meta(pattern=ID_PATTERN)]

_STATUSES: Final = get_args(ExecutionStatus)
_SLICE_S: Final = 0.002
"""How long a log is folded before the event loop serves streams again."""
_MAX_INLINE_STEPS: Final = 500
_MAX_FETCHED_BYTES: Final = 32 * 1024 * 1024
"""The limit for referenced outputs in one response; a document links to the rest."""

_STATUS: Final = Parameter("status", ExecutionStatus, "Only runs with this status.")
_WORKFLOW: Final = Parameter(
    "workflow_id", Annotated[str, Meta(pattern=ID_PATTERN)], "Only runs of this workflow."
)
_FILTERS: Final = (
    Parameter("tag", Annotated[str, Meta(pattern=ID_PATTERN)], "Only runs with this tag."),
    Parameter(
        "parent", Annotated[str, Meta(pattern=ID_PATTERN)], "Only child runs of this execution."
    ),
    Parameter("created_after", datetime, "Only runs that were created at this time or later."),
    Parameter("created_before", datetime, "Only runs that were created before this time."),
    Parameter(
        "q",
        Annotated[str, Meta(pattern=ID_PATTERN)],
        "Only runs whose id, or whose workflow's id, contains this text.",
    ),
)
_LOGS: Final = Parameter("include_logs", bool, "Whether to include all events of the log.")


class StartRun(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """The start of a run.

    Attributes:
        input: The input, which must match the workflow's ``input`` schema.
        tags: Tags of the run, in addition to those of the workflow; at most 16 together.
    """

    input: Any = {}
    tags: Annotated[list[Tag], Meta(max_length=MAX_TAGS)] = []


class Accepted(msgspec.Struct):
    """An execution whose request was accepted.

    Attributes:
        stream_url: The path of the execution's event stream.
    """

    execution_id: str
    status: ExecutionStatus
    stream_url: str


class RunList(msgspec.Struct):
    """A page of runs, newest first.

    Attributes:
        cursor: The cursor of the next page; null on the last page.
    """

    runs: list[RunSummary]
    cursor: str | None


def _shows(path: str) -> Callable[[F], F]:
    return operation(
        "GET",
        path,
        scope="executions:read",
        answers={200: Answer(RunDocument, "The run.")},
        problems=(404, 410),
        parameters=(_LOGS,),
    )


@dataclass(frozen=True, slots=True)
class ExecutionRoutes:
    """The routes of runs, under their workflow and by themselves."""

    settings: ApiSettings
    log: ExecutionLog
    workflows: WorkflowStore
    runs: RunPages
    starter: RunStarter
    outputs: OutputStore
    estimators: EstimatorCache

    @operation(
        "POST",
        "/api/v1/workflows/{workflow_id}/runs",
        scope="executions:write",
        answers={202: Answer(Accepted, "The run is recorded in the log.", headers=("Location",))},
        problems=(404, 429),
        body=StartRun,
        is_body_required=False,
        parameters=(IDEMPOTENCY_KEY,),
    )
    async def start(self, request: Request) -> Response:
        """Start a run."""
        tenant = tenant_of(request, self.settings)
        key = idempotency_key_of(request)
        body = await read_object(request, self.settings.max_body_bytes, if_empty={})
        refuse_unknown(body, "input", "tags")
        state = await self.starter.start(
            RunRequest(
                tenant,
                request.path_params["workflow_id"],
                "input",
                body.get("input", {}),
                body,
                key,
                Origin(tags=_tags(body)),
            )
        )
        return json_response(accepted(state), 202, {"location": location_of(state)})

    @operation(
        "GET",
        "/api/v1/workflows/{workflow_id}/runs",
        scope="executions:read",
        answers={200: Answer(RunList, "A page of the list.")},
        parameters=(_STATUS, *_FILTERS, LIMIT, CURSOR),
        summary="List the runs of a workflow, newest first",
    )
    @operation(
        "GET",
        "/api/v1/executions",
        scope="executions:read",
        answers={200: Answer(RunList, "A page of the list.")},
        parameters=(_WORKFLOW, _STATUS, *_FILTERS, LIMIT, CURSOR),
        summary="List runs of all workflows, newest first",
    )
    async def list_page(self, request: Request) -> Response:
        """List runs, newest first, of one workflow or of all.

        Failed and cancelled runs come page by page in the order of their ends, all others in the
        order of their starts. A page may be short, and still have a cursor, if few of very many
        runs match.
        """
        tenant = tenant_of(request, self.settings)
        workflow = request.path_params.get("workflow_id", query_value(request, "workflow_id"))
        if workflow is not None:
            check_id(workflow, "workflow_id")
        query = RunQuery(
            workflow=workflow,
            status=_status(query_value(request, "status")),
            tag=_id(request, "tag"),
            parent=_id(request, "parent"),
            created_after=time_of(request, "created_after"),
            created_before=time_of(request, "created_before"),
            text=_id(request, "q"),
        )
        page = await self.runs.page(
            tenant, query, limit=limit_of(request), cursor=cursor_of(request)
        )
        return json_response(RunList(page.runs, page.cursor))

    @_shows("/api/v1/workflows/{workflow_id}/runs/{execution_id}")
    @_shows("/api/v1/executions/{execution_id}")
    async def get(self, request: Request) -> Response:
        """Show a run with its status, its steps and, on request, its log."""
        tenant, execution = tenant_of(request, self.settings), execution_id_of(request)
        with_logs = _flag(request, "include_logs")
        state, logs = await self._read(tenant, execution, with_logs=with_logs)
        workflow = request.path_params.get("workflow_id")
        if workflow is not None and check_id(workflow, "workflow") != state.workflow_id:
            raise ExecutionNotFoundError(f"there is no execution {execution!r}")
        definition = await self._definition(tenant, state)
        estimator = await self._estimator(tenant, state, definition)
        fetched = await self._fetch_outputs(state, definition)
        steps = max(len(definition.nodes) if definition else 0, len(state.steps))
        if steps <= _MAX_INLINE_STEPS and not fetched and not state.output_omitted:
            return json_response(_document(state, definition, logs, estimator))
        # Large documents are built in a thread, so that streams do not wait.
        return await asyncio.to_thread(
            lambda: json_response(_document(state, definition, logs, estimator))
        )

    @operation(
        "GET",
        "/api/v1/executions/{execution_id}/steps/{step_id}/output",
        scope="executions:read",
        answers={200: Answer(Any, "The output.")},
        problems=(404, 410, 413),
    )
    async def output(self, request: Request) -> Response:
        """Show the output of a step of any size."""
        tenant, execution = tenant_of(request, self.settings), execution_id_of(request)
        step_id = request.path_params["step_id"]
        state, _ = await self._read(tenant, execution, with_logs=False)
        step = state.steps.get(step_id)
        if step is None or step.status != "success":
            raise RefusedError(404, f"the step {step_id[:80]!r} has no output")
        if (size := output_bytes(step, state)) > _MAX_FETCHED_BYTES:
            raise RefusedError(
                413,
                f"the output of {step_id!r} is {size} bytes of JSON, more than the limit "
                f"of {_MAX_FETCHED_BYTES}; request the outputs of its items",
            )
        await self.outputs.fetch(state, [step_id])
        if not size:
            return json_response(mask_value(step.output, step.sensitive))
        return await asyncio.to_thread(
            lambda: json_response(mask_value(step.output, step.sensitive))
        )

    async def _read(
        self, tenant: str, execution: str, *, with_logs: bool
    ) -> tuple[ExecutionState, list[LogEntry] | None]:
        async def read() -> tuple[ExecutionState, list[LogEntry] | None]:
            found = await self._read_once(tenant, execution, with_logs=with_logs)
            # Any replica may have answered, and it may not have the execution yet.
            if not _exists(found) and await self.log.last_commit(tenant, execution) is None:
                raise ExecutionNotFoundError(f"there is no execution {execution!r}")
            return found

        return await until_caught_up(read, _exists, f"execution {execution!r}")

    async def _read_once(
        self, tenant: str, execution: str, *, with_logs: bool
    ) -> tuple[ExecutionState, list[LogEntry] | None]:
        state = ExecutionState()
        logs: list[LogEntry] = []
        epoch = (await self.log.edge()).epoch if with_logs else ""
        until = time.perf_counter() + _SLICE_S
        async for commit in self.log.read(tenant, execution):
            for event in commit.events():
                state.apply(event)
            if with_logs:
                logs.extend(log_entries(epoch, commit.sequence, commit.payload))
            if time.perf_counter() >= until:
                await asyncio.sleep(0)
                until = time.perf_counter() + _SLICE_S
        return state, logs if with_logs else None

    async def _fetch_outputs(self, state: ExecutionState, definition: Definition | None) -> bool:
        room = _MAX_FETCHED_BYTES
        wanted = (
            await asyncio.to_thread(wanted_outputs, state, definition)
            if state.output_omitted
            else wanted_outputs(state, definition)
        )
        for step_id in wanted:
            step = state.steps[step_id]
            if step.output_ref is not None and step.output_ref.bytes <= room:
                room -= step.output_ref.bytes
                # An expired output is left out; the rest of the document is served.
                with contextlib.suppress(OutputNotFoundError):
                    await self.outputs.fetch(state, [step_id])
        for step in state.steps.values():
            if step.output_omitted:
                step.output = state.gathered_output(step)
        return room < _MAX_FETCHED_BYTES

    async def _definition(self, tenant: str, state: ExecutionState) -> Definition | None:
        try:
            stored = await self.workflows.get(tenant, state.workflow_id, state.version)
        except WorkflowNotFoundError:
            return None  # evicted after a thousand versions; the log still has the history
        return stored.definition

    async def _estimator(
        self, tenant: str, state: ExecutionState, definition: Definition | None
    ) -> Estimator | None:
        if definition is None or state.is_terminal:
            return None
        return await self.estimators.get(tenant, definition, state.version)


def execution_id_of(request: Request) -> str:
    """Return the execution id in the path.

    Raises:
        InvalidIdError: It is not an id.
    """
    return check_id(request.path_params["execution_id"], "execution")


def _document(
    state: ExecutionState,
    definition: Definition | None,
    logs: list[LogEntry] | None,
    estimator: Estimator | None,
) -> RunDocument:
    entries = msgspec.UNSET if logs is None else logs
    return run_document(state, definition, time.time(), entries, estimator)


def location_of(state: ExecutionState) -> str:
    """Return the path of a run's document."""
    return f"/api/v1/workflows/{state.workflow_id}/runs/{state.execution_id}"


def accepted(state: ExecutionState) -> Accepted:
    """Return the response to an accepted request about an execution."""
    stream_url = f"/api/v1/sse/executions/{state.execution_id}/stream"
    return Accepted(state.execution_id, state.status, stream_url)


def _status(text: str | None) -> str | None:
    if text is not None and text not in _STATUSES:
        raise RefusedError(400, f"status: {text[:40]!r} is not one of {', '.join(_STATUSES)}")
    return text


def _tags(body: dict[str, Any]) -> tuple[str, ...]:
    tags = body.get("tags", [])
    problems = [
        Problem(join_pointer("/tags", *place), detail)
        for place, detail in tag_problems(tags, MAX_TAGS)
    ]
    if problems:
        raise RefusedError(422, "the tags are not valid", problems)
    return tuple(tags)


def _id(request: Request, name: str) -> str | None:
    text = query_value(request, name)
    return None if text is None else check_id(text, name)


def _exists(found: tuple[ExecutionState, list[LogEntry] | None]) -> bool:
    state, _ = found
    return bool(state.execution_id)


def _flag(request: Request, name: str) -> bool:
    text = (query_value(request, name) or "false").lower()
    if text not in {"true", "false", "1", "0"}:
        raise RefusedError(400, f"{name}: {text[:40]!r} is neither true nor false")
    return text in {"true", "1"}
