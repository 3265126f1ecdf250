"""Streams of one execution, by its id or started in the same request."""

from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from tailrace_api.auth.tenancy import tenant_of
from tailrace_api.dialects.encoding import reset, without_id
from tailrace_api.dialects.execution import EXECUTION
from tailrace_api.dialects.run_and_stream import RUN_AND_STREAM
from tailrace_api.fanout.history.resume import LostPosition, ResumePoint, Start, find, resume
from tailrace_api.fanout.hub import Hub
from tailrace_api.fanout.views.view import View
from tailrace_api.http.event_stream import whole_stream
from tailrace_api.routes.executions import execution_id_of
from tailrace_api.routes.streams.opening import (
    LAST_EVENT_ID,
    Opening,
    last_event_id_of,
    refuses_in_band,
)
from tailrace_api.web.idempotency_key import IDEMPOTENCY_KEY, idempotency_key_of
from tailrace_api.web.json_body import read_object
from tailrace_api.web.operation import EVENT_STREAM, Answer, operation
from tailrace_api.web.problems import unprocessable
from tailrace_shared.commands.run_starter import RunRequest, RunStarter
from tailrace_shared.errors import UnavailableError
from tailrace_shared.ids import ID_PATTERN, is_valid_id
from tailrace_shared.settings import ApiSettings
from tailrace_shared.subjects import LogFilter


class RunAndStream(msgspec.Struct):
    """A run to start and stream.

    Attributes:
        flow_id: The id of the workflow; a number is accepted, too.
        input_data: The input of the run.
    """

    flow_id: Annotated[str, Meta(pattern=ID_PATTERN)] | int
    input_data: Any = None


@dataclass(frozen=True, slots=True)
class StreamRoutes:
    """The routes that stream one execution."""

    settings: ApiSettings
    hub: Hub
    starter: RunStarter
    opening: Opening

    @operation(
        "GET",
        "/api/v1/sse/executions/{execution_id}/stream",
        scope="executions:read",
        answers={
            200: Answer(str, "The events of the execution.", EVENT_STREAM),
            204: Answer(None, "The client has received all events."),
        },
        problems=(404,),
        parameters=LAST_EVENT_ID,
    )
    @refuses_in_band
    async def execution(self, request: Request) -> Response:
        """Stream an execution from its first event, or resume after the last id."""
        tenant, execution = tenant_of(request, self.settings), execution_id_of(request)
        view, last_event_id = (
            View(EXECUTION, LogFilter(tenant, execution)),
            last_event_id_of(request),
        )
        if refused := self.opening.refusal(view, last_event_id):
            return refused
        try:
            start = await resume(self.hub.history, view, last_event_id)
        except UnavailableError as error:
            return self.opening.unavailable(error, last_event_id)
        return self.opening.stream(view, start, last_event_id)

    @operation(
        "POST",
        "/api/v1/executions/stream",
        scope="executions:write",
        # With a last id the route streams any run of the tenant.
        more_scopes=("executions:read",),
        answers={
            200: Answer(str, "The events of the run.", EVENT_STREAM),
            204: Answer(None, "The client has received all events."),
        },
        problems=(404, 429),
        body=RunAndStream,
        parameters=(IDEMPOTENCY_KEY, *LAST_EVENT_ID),
    )
    async def run_and_stream(self, request: Request) -> Response:
        """Start a run and stream it; with a last id, resume the stream of its run."""
        tenant = tenant_of(request, self.settings)
        key = idempotency_key_of(request)
        body = await read_object(request, self.settings.max_body_bytes)
        if last_event_id := last_event_id_of(request):
            return await self._resume(tenant, last_event_id)
        # Start no run that cannot be streamed. Without NATS no run can be started, and the client
        # gets a problem instead of a stream.
        reason = self.hub.refusal(View(RUN_AND_STREAM, LogFilter(tenant)))
        if reason and reason != "disconnected":
            return self.opening.later(reason)
        flow_id = _flow_id(body)
        run_input = {} if (sent := body.get("input_data")) is None else sent
        state = await self.starter.start(
            RunRequest(tenant, flow_id, "input_data", run_input, body, key)
        )
        # Not refused any more: the client would reconnect and start another run.
        view = _view_of(tenant, state.execution_id)
        return self.opening.stream_unlimited(view, Start())

    async def _resume(self, tenant: str, last_event_id: str) -> Response:
        try:
            found = await find(self.hub.history, last_event_id)
        except UnavailableError as error:
            return self.opening.unavailable(error, last_event_id)
        is_execution = isinstance(found, ResumePoint) and is_valid_id(found.execution)
        if isinstance(found, ResumePoint) and is_execution and found.tenant == tenant:
            return self.opening.stream(_view_of(tenant, found.execution), found.start())
        # The run of this id is unknown, and starting another one would be unexpected.
        reason = found.reason if isinstance(found, LostPosition) else "unknown"
        return whole_stream(without_id([reset(reason, None)]))


def _view_of(tenant: str, execution: str) -> View:
    return View(RUN_AND_STREAM, LogFilter(tenant, execution))


def _flow_id(body: dict[str, Any]) -> str:
    flow_id = body.get("flow_id")
    # Some front ends number their flows.
    if isinstance(flow_id, int) and not isinstance(flow_id, bool):
        return str(flow_id)
    if not isinstance(flow_id, str):
        detail = "flow_id must be the id of a workflow"
        raise unprocessable("/flow_id", detail)
    return flow_id
