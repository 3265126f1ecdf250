"""The routes of one step of a run, with all that is known of it."""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from tailrace_api.auth.tenancy import tenant_of
from tailrace_api.documents.run_document import step_document
from tailrace_api.documents.step_document import (
    StepDetails,
    StepHistory,
    StepInput,
    step_details,
    template_of,
    wanted_by,
)
from tailrace_api.routes.executions import execution_id_of
from tailrace_api.web.json_response import json_response
from tailrace_api.web.operation import Answer, operation
from tailrace_api.web.problems import RefusedError
from tailrace_shared.errors import ExecutionNotFoundError, WorkflowNotFoundError
from tailrace_shared.execution.items import split_item_id
from tailrace_shared.execution.state import ExecutionState
from tailrace_shared.nats.catch_up import until_caught_up
from tailrace_shared.process.fair_threads import FairThreads
from tailrace_shared.settings import ApiSettings
from tailrace_shared.stores.execution_log import ExecutionLog
from tailrace_shared.stores.output_store import OutputStore
from tailrace_shared.stores.workflow_store import WorkflowStore
from tailrace_shared.workflow.definition import Definition

_SLICE_S: Final = 0.002
_MAX_FETCHED_BYTES: Final = 8 * 1024 * 1024
"""The limit for outputs that are fetched to render an input."""


@dataclass(frozen=True, slots=True)
class StepRoutes:
    """The routes of a step."""

    settings: ApiSettings
    log: ExecutionLog
    workflows: WorkflowStore
    outputs: OutputStore
    threads: FairThreads = field(default_factory=FairThreads)

    @operation(
        "GET",
        "/api/v1/executions/{execution_id}/steps/{step_id}",
        scope="executions:read",
        answers={200: Answer(StepDetails, "The step.")},
        problems=(404, 410),
    )
    async def get(self, request: Request) -> Response:
        """Show a step with its input, attempts and log lines."""
        return json_response(await self._details(request))

    @operation(
        "GET",
        "/api/v1/executions/{execution_id}/steps/{step_id}/input",
        scope="executions:read",
        answers={200: Answer(StepInput, "The input.")},
        problems=(404, 410),
    )
    async def get_input(self, request: Request) -> Response:
        """Show the rendered input of a step's last attempt."""
        details = await self._details(request)
        return json_response(StepInput(details.input, details.input_problem))

    async def _details(self, request: Request) -> StepDetails:
        tenant, execution = tenant_of(request, self.settings), execution_id_of(request)
        step_id = request.path_params["step_id"]
        history = await self._history(tenant, execution, step_id)
        definition = await self._definition(tenant, history.state)
        nodes = definition.all_nodes if definition else {}
        if step_id not in history.state.steps and step_id not in nodes:
            raise RefusedError(404, f"there is no step {step_id[:80]!r} in this run")
        problem = await self._fetch(history, definition)
        step = step_document(step_id, definition, history.state)
        # Expressions are evaluated in a thread, so that streams do not wait.
        return await self.threads.run(tenant, step_details, step, history, nodes, problem)

    async def _history(self, tenant: str, execution: str, step_id: str) -> StepHistory:
        async def read() -> StepHistory:
            history = await self._read(tenant, execution, step_id)
            # Any replica may have answered, and it may not have the execution yet.
            is_known = bool(history.state.execution_id)
            if not is_known and await self.log.last_commit(tenant, execution) is None:
                raise ExecutionNotFoundError(f"there is no execution {execution!r}")
            return history

        return await until_caught_up(
            read, lambda found: bool(found.state.execution_id), f"execution {execution!r}"
        )

    async def _read(self, tenant: str, execution: str, step_id: str) -> StepHistory:
        history = StepHistory(step_id)
        until = time.perf_counter() + _SLICE_S
        async for commit in self.log.read(tenant, execution):
            history.take(commit.events(), commit.writer)
            if time.perf_counter() >= until:
                await asyncio.sleep(0)
                until = time.perf_counter() + _SLICE_S
        return history

    async def _definition(self, tenant: str, state: ExecutionState) -> Definition | None:
        try:
            return (await self.workflows.get(tenant, state.workflow_id, state.version)).definition
        except WorkflowNotFoundError:
            return None

    async def _fetch(self, history: StepHistory, definition: Definition | None) -> str:
        """Fetch the outputs that the input names; return why it cannot be shown, if so."""
        begin, step_id = history.begin, history.step_id
        node = definition.all_nodes.get(split_item_id(step_id)[0]) if definition else None
        if begin is None or node is None:
            return ""
        template = await asyncio.to_thread(template_of, node, step_id)
        wanted = wanted_by(template, begin)
        if self.outputs.bytes_to_fetch(begin, wanted) > _MAX_FETCHED_BYTES:
            return f"the outputs that it names exceed {_MAX_FETCHED_BYTES} bytes"
        if wanted:
            await self.outputs.fetch(begin, wanted)
        return ""
