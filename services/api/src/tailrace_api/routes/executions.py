"""Runs: start, list, show, cancel. An execution is a run by its own id."""

import asyncio
import time
from typing import Any, Final, get_args

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tailrace_api.idempotency_key import idempotency_key_of
from tailrace_api.json_body import read_object
from tailrace_api.json_response import json_response
from tailrace_api.problems import RefusedError, pointer
from tailrace_api.query import cursor_of, limit_of
from tailrace_api.run_document import LogEntry, RunDocument, log_entries, run_document
from tailrace_api.tenancy import tenant_of
from tailrace_shared.errors import ExecutionNotFoundError, WorkflowNotFoundError
from tailrace_shared.execution.state import ExecutionState, ExecutionStatus
from tailrace_shared.execution_log import ExecutionLog
from tailrace_shared.ids import check_id
from tailrace_shared.run_index import RunIndex
from tailrace_shared.run_starter import RunRequest, RunStarter
from tailrace_shared.settings import ApiSettings
from tailrace_shared.workflow.definition import Definition
from tailrace_shared.workflow.validation import Problem
from tailrace_shared.workflow_store import WorkflowStore

_STATUSES: Final = get_args(ExecutionStatus)
_LONGEST_REASON: Final = 1000
_SMALL_STEPS: Final = 500


class ExecutionRoutes:
    """The routes of runs, under their workflow and by themselves."""

    def __init__(
        self,
        settings: ApiSettings,
        log: ExecutionLog,
        workflows: WorkflowStore,
        runs: RunIndex,
        starter: RunStarter,
    ) -> None:
        self._settings = settings
        self._log = log
        self._workflows = workflows
        self._runs = runs
        self._starter = starter

    def routes(self) -> list[Route]:
        """Return the routing table."""
        runs, executions = "/api/v1/workflows/{workflow_id}/runs", "/api/v1/executions"
        return [
            Route(runs, self.start, methods=["POST"]),
            Route(runs, self.list_page, methods=["GET"]),
            Route(f"{runs}/{{execution_id}}", self.get, methods=["GET"]),
            Route(executions, self.list_page, methods=["GET"]),
            Route(f"{executions}/{{execution_id}}", self.get, methods=["GET"]),
            Route(f"{executions}/{{execution_id}}/cancel", self.cancel, methods=["POST"]),
        ]

    async def start(self, request: Request) -> Response:
        """Start a run."""
        tenant = tenant_of(request, self._settings)
        key = idempotency_key_of(request)
        body = await read_object(request, self._settings.max_body_bytes, if_empty={})
        _refuse_unknown(body, "input")
        state = await self._starter.start(
            RunRequest(
                tenant,
                request.path_params["workflow_id"],
                "input",
                body.get("input", {}),
                body,
                key,
            )
        )
        location = f"/api/v1/workflows/{state.workflow_id}/runs/{state.execution_id}"
        return json_response(_accepted(state), 202, {"location": location})

    async def list_page(self, request: Request) -> Response:
        """List runs, newest first, of one workflow or of all."""
        tenant, query = tenant_of(request, self._settings), request.query_params
        workflow = request.path_params.get("workflow_id") or query.get("workflow_id")
        page = await self._runs.page(
            tenant,
            workflow=check_id(workflow, "workflow_id") if workflow else None,
            status=_status(query.get("status")),
            limit=limit_of(request),
            cursor=cursor_of(request),
        )
        return json_response({"runs": page.runs, "cursor": page.cursor})

    async def get(self, request: Request) -> Response:
        """Return the run document."""
        tenant, execution = tenant_of(request, self._settings), execution_id_of(request)
        with_logs = _flag(request, "include_logs")
        state, logs = await self._read(tenant, execution, with_logs=with_logs)
        workflow = request.path_params.get("workflow_id")
        if workflow is not None and check_id(workflow, "workflow") != state.workflow_id:
            raise ExecutionNotFoundError(f"there is no execution {execution!r}")
        definition = await self._definition(tenant, state)
        steps = len(definition.nodes) if definition else len(state.steps)
        if steps <= _SMALL_STEPS:
            return json_response(_document(state, definition, logs))
        # Large documents are put together in a thread: streams must not wait for that.
        return await asyncio.to_thread(lambda: json_response(_document(state, definition, logs)))

    async def cancel(self, request: Request) -> Response:
        """Ask for the end of an execution."""
        tenant, execution = tenant_of(request, self._settings), execution_id_of(request)
        body = await read_object(request, self._settings.max_body_bytes, if_empty={})
        _refuse_unknown(body, "reason")
        state = await self._log.request_cancel(tenant, execution, _reason(body))
        if not state.is_terminal:
            await self._starter.advance(tenant, execution)
        return json_response(_accepted(state), 202)

    async def _read(
        self, tenant: str, execution: str, *, with_logs: bool
    ) -> tuple[ExecutionState, list[LogEntry] | None]:
        state = ExecutionState()
        logs: list[LogEntry] = []
        epoch = (await self._log.edge()).epoch if with_logs else ""
        async for commit in self._log.read(tenant, execution):
            for event in commit.events():
                state.apply(event)
            if with_logs:
                logs.extend(log_entries(epoch, commit.sequence, commit.payload))
        if not state.execution_id:
            raise ExecutionNotFoundError(f"there is no execution {execution!r}")
        return state, logs if with_logs else None

    async def _definition(self, tenant: str, state: ExecutionState) -> Definition | None:
        try:
            stored = await self._workflows.get(tenant, state.workflow_id, state.version)
        except WorkflowNotFoundError:
            return None  # a thousand versions ago; the log still says what happened
        return stored.definition


def execution_id_of(request: Request) -> str:
    """Return the execution that a path names.

    Raises:
        InvalidIdError: it is not an id.
    """
    return check_id(request.path_params["execution_id"], "execution")


def _document(
    state: ExecutionState, definition: Definition | None, logs: list[LogEntry] | None
) -> RunDocument:
    return run_document(state, definition, time.time(), msgspec.UNSET if logs is None else logs)


def _accepted(state: ExecutionState) -> dict[str, Any]:
    return {
        "execution_id": state.execution_id,
        "status": state.status,
        "stream_url": f"/api/v1/sse/executions/{state.execution_id}/stream",
    }


def _refuse_unknown(body: dict[str, Any], *known: str) -> None:
    unknown = [Problem(pointer(key), f"unknown field {key!r}") for key in body if key not in known]
    if unknown:
        raise RefusedError(422, "the body has unknown fields", unknown)


def _reason(body: dict[str, Any]) -> str:
    reason = body.get("reason")
    if reason is None:
        return ""
    if not isinstance(reason, str) or len(reason) > _LONGEST_REASON:
        detail = f"reason is a text of at most {_LONGEST_REASON} characters"
        raise RefusedError(422, detail, [Problem("/reason", detail)])
    return reason


def _status(text: str | None) -> str | None:
    if text is not None and text not in _STATUSES:
        raise RefusedError(400, f"status: {text[:40]!r} is none of {', '.join(_STATUSES)}")
    return text


def _flag(request: Request, name: str) -> bool:
    text = request.query_params.get(name, "false").lower()
    if text not in {"true", "false", "1", "0"}:
        raise RefusedError(400, f"{name}: {text[:40]!r} is neither true nor false")
    return text in {"true", "1"}
