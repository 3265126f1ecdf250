"""Routes of waiting steps and of commands to their executions.

Existing front ends define the paths and fields. The commands are the same as under
``/api/v1/executions``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeVar

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from tailrace_api.auth.tenancy import actor_of, tenant_of
from tailrace_api.dialects.paused_workflows import PAUSED_WORKFLOWS, PausedWorkflow
from tailrace_api.fanout.hub import Hub
from tailrace_api.fanout.tenants.snapshots import Snapshots
from tailrace_api.routes.commands.command_body import (
    DecisionText,
    NodeId,
    ReasonText,
    decision_of,
    reason_of,
)
from tailrace_api.routes.commands.commands import event_id_of
from tailrace_api.routes.executions import location_of
from tailrace_api.routes.streams.opening import LAST_EVENT_ID, Opening, refuses_in_band
from tailrace_api.web.idempotency_key import IDEMPOTENCY_KEY, idempotency_key_of
from tailrace_api.web.json_body import read_object, refuse_unknown
from tailrace_api.web.json_response import NO_STORE, json_response
from tailrace_api.web.operation import EVENT_STREAM, Answer, operation
from tailrace_api.web.problems import unprocessable
from tailrace_shared.commands.execution_commands import Caller, ExecutionCommands
from tailrace_shared.commands.execution_commands import Commanded as CommandRecord
from tailrace_shared.commands.run_input import InvalidInputError
from tailrace_shared.commands.run_starter import RunRequest, RunStarter
from tailrace_shared.execution.state import ExecutionState
from tailrace_shared.execution.transitions import ExecutionStatus
from tailrace_shared.ids import ID_PATTERN, is_valid_id
from tailrace_shared.settings import ApiSettings
from tailrace_shared.workflow.problem_report import Problem

F = TypeVar("F", bound=Callable[..., Any])

Id = Annotated[str, Meta(pattern=ID_PATTERN)]


class Execute(msgspec.Struct, omit_defaults=True, rename="camel", forbid_unknown_fields=True):
    """A run to start.

    Attributes:
        workflow_id: The workflow.
        input: The input, which must match the workflow's ``input`` schema.
    """

    workflow_id: Id
    input: Any = {}


class Resume(msgspec.Struct, omit_defaults=True, rename="camel", forbid_unknown_fields=True):
    """A signal for a waiting step; without node, decision and data it resumes a paused execution.

    Attributes:
        execution_id: The execution of the step.
        node: The step; optional if only one step waits.
        decision: The decision; ``approved`` by default.
        data: The data for the step.
    """

    execution_id: Id
    node: NodeId | None = None
    decision: DecisionText | None = None
    data: Any = None


class Cancel(msgspec.Struct, omit_defaults=True, rename="camel", forbid_unknown_fields=True):
    """A cancellation.

    Attributes:
        execution_id: The execution.
        reason: The reason, recorded in the log.
    """

    execution_id: Id
    reason: ReasonText | None = None


class Commanded(msgspec.Struct, rename="camel", omit_defaults=True):
    """An accepted command.

    Attributes:
        execution_id: The execution.
        workflow_id: Its workflow.
        status: Its status after the command.
        command_id: The id of the command in the log; absent for a start.
        event_id: The id of its event in the execution's stream; absent if an earlier copy of the
            request is in the log.
    """

    execution_id: str
    workflow_id: str
    status: ExecutionStatus
    command_id: str | msgspec.UnsetType = msgspec.UNSET
    event_id: str | msgspec.UnsetType = msgspec.UNSET


class PausedList(msgspec.Struct, rename="camel", omit_defaults=True):
    """The steps that wait for a signal.

    Attributes:
        paused_workflows: The newest waiting steps, newest first.
        total: The total number, if not all are listed.
    """

    paused_workflows: list[PausedWorkflow]
    total: int = 0


_IN_LOG: Final = Answer(Commanded, "The command is in the log.")


def _command(
    name: str, body: type[msgspec.Struct], problems: tuple[int, ...] = (404, 409, 410)
) -> Callable[[F], F]:
    return operation(
        "POST",
        f"/api/workflow/{name}",
        scope="executions:write",
        answers={202: _IN_LOG},
        problems=problems,
        body=body,
        parameters=(IDEMPOTENCY_KEY,),
    )


@dataclass(frozen=True, slots=True)
class PausedRoutes:
    """The routes under ``/api/workflow``."""

    settings: ApiSettings
    hub: Hub
    opening: Opening
    snapshots: Snapshots
    commands: ExecutionCommands
    starter: RunStarter

    @operation(
        "GET",
        "/api/workflow/paused-stream",
        scope="executions:read",
        answers={200: Answer(str, "The waiting steps, then every change.", EVENT_STREAM)},
        parameters=LAST_EVENT_ID,
    )
    @refuses_in_band
    async def stream(self, request: Request) -> Response:
        """Stream the steps that wait for a signal, and every change."""
        tenant = tenant_of(request, self.settings)
        return await self.opening.tenant(request, tenant, PAUSED_WORKFLOWS)

    @operation(
        "GET",
        "/api/workflow/paused",
        scope="executions:read",
        answers={200: Answer(PausedList, "The waiting steps.")},
    )
    async def list_paused(self, request: Request) -> Response:
        """List the steps that wait for a signal, newest first."""
        tenant = tenant_of(request, self.settings)
        loaded = await self.snapshots.load(tenant, PAUSED_WORKFLOWS.snapshot_query)
        (initial,) = PAUSED_WORKFLOWS.begin(loaded.snapshot).opening(0)
        return Response(initial.data, headers=NO_STORE, media_type="application/json")

    @_command("execute", Execute, (404, 429))
    async def execute(self, request: Request) -> Response:
        """Start a run of a workflow."""
        tenant, body, by = await self._read(request, "workflowId", "input")
        workflow = _id(body, "workflowId")
        run_input = {} if (sent := body.get("input")) is None else sent
        state = await self.starter.start(
            RunRequest(tenant, workflow, "input", run_input, body, by.key)
        )
        return json_response(_document(state), 202, {"location": location_of(state)})

    @_command("resume", Resume)
    async def resume(self, request: Request) -> Response:
        """Send a signal to a waiting step, or resume a paused execution."""
        tenant, body, by = await self._read(request, "executionId", "node", "decision", "data")
        execution, decision = _id(body, "executionId"), decision_of(body, "node")
        try:
            if decision is None:
                commanded = await self.commands.resume(tenant, execution, by)
            else:
                commanded = await self.commands.resolve(tenant, execution, decision, by)
        except InvalidInputError as error:
            raise InvalidInputError(error.summary, [*map(_rename_field, error.problems)]) from None
        return self._commanded(commanded)

    @_command("cancel", Cancel)
    async def cancel(self, request: Request) -> Response:
        """Cancel an execution."""
        tenant, body, by = await self._read(request, "executionId", "reason")
        execution, reason = _id(body, "executionId"), reason_of(body)
        return self._commanded(await self.commands.cancel(tenant, execution, reason, by))

    def _commanded(self, commanded: CommandRecord) -> Response:
        body = _document(commanded.state)
        body.command_id = commanded.command_id
        body.event_id = event_id_of(commanded, self.hub) or msgspec.UNSET
        return json_response(body, 202)

    async def _read(self, request: Request, *known: str) -> tuple[str, dict[str, Any], Caller]:
        tenant = tenant_of(request, self.settings)
        by = Caller(actor_of(request), idempotency_key_of(request))
        body = await read_object(request, self.settings.max_body_bytes)
        refuse_unknown(body, *known)
        return tenant, body, by


def _document(state: ExecutionState) -> Commanded:
    return Commanded(state.execution_id, state.workflow_id, state.status)


def _rename_field(problem: Problem) -> Problem:
    return Problem("/node", problem.detail) if problem.pointer == "/node_id" else problem


def _id(body: dict[str, Any], field: str) -> str:
    value = body.get(field)
    if not isinstance(value, str) or not is_valid_id(value):
        raise unprocessable(f"/{field}", f"{field} must be the id of {_ID_FIELDS[field]}")
    return value


_ID_FIELDS: Final = {"workflowId": "a workflow", "executionId": "an execution"}
