"""The streams: one execution, and run and watch in one request."""

from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from tailrace_api.dialects.dialect import reset
from tailrace_api.dialects.execution import EXECUTION
from tailrace_api.dialects.run_and_stream import RUN_AND_STREAM
from tailrace_api.fanout.hub import Hub
from tailrace_api.fanout.replay import ReplayBusyError
from tailrace_api.fanout.resume import Found, Lost, Start, find, resume
from tailrace_api.fanout.view import View
from tailrace_api.idempotency_key import IDEMPOTENCY_KEY, idempotency_key_of
from tailrace_api.json_body import read_object
from tailrace_api.operation import EVENT_STREAM, Answer, Operation, Parameter
from tailrace_api.problems import RefusedError
from tailrace_api.routes.executions import execution_id_of
from tailrace_api.sse.direct import Writing
from tailrace_api.sse.response import EventStream, come_back_later, whole_stream
from tailrace_api.tenancy import tenant_of
from tailrace_shared.errors import UnavailableError
from tailrace_shared.execution_log import ExecutionLog
from tailrace_shared.run_starter import RunRequest, RunStarter
from tailrace_shared.settings import ApiSettings
from tailrace_shared.subjects import LogFilter
from tailrace_shared.workflow.validation import Problem

_LAST_EVENT_ID: Final = (
    Parameter(
        "Last-Event-ID",
        str,
        "The id of the last event that the client has; the stream goes on after it.",
        place="header",
    ),
    Parameter("last_event_id", str, "The same, for clients that cannot send the header."),
    Parameter("lastEventId", str, "The same, as polyfills of EventSource send it."),
)


class RunAndStream(msgspec.Struct):
    """What to run and watch.

    Attributes:
        flow_id: the workflow's id, or its number.
        input_data: the input of the run.
    """

    flow_id: str | int
    input_data: Any = None


class StreamRoutes:
    """The routes that answer with events."""

    def __init__(
        self, settings: ApiSettings, log: ExecutionLog, hub: Hub, starter: RunStarter
    ) -> None:
        self._settings = settings
        self._log = log
        self._hub = hub
        self._starter = starter
        self._writing = Writing(
            settings.direct_writes, settings.send_buffer, settings.stall_timeout
        )

    def routes(self) -> list[Operation]:
        """Return the routing table."""
        return [
            Operation(
                "GET",
                "/api/v1/sse/executions/{execution_id}/stream",
                self.execution,
                scope="executions:read",
                summary="Stream an execution from its first event, or from after the last id",
                answers={
                    200: Answer(str, "Its events.", EVENT_STREAM),
                    204: Answer(None, "The client has them all."),
                },
                problems=(404,),
                parameters=_LAST_EVENT_ID,
            ),
            Operation(
                "POST",
                "/api/v1/executions/stream",
                self.run_and_stream,
                scope="executions:write",
                summary="Start a run and stream it; with a last id, go on with the run that has it",
                answers={
                    200: Answer(str, "The events of the run.", EVENT_STREAM),
                    204: Answer(None, "The client has them all."),
                },
                problems=(404,),
                body=RunAndStream,
                parameters=(IDEMPOTENCY_KEY, *_LAST_EVENT_ID),
            ),
        ]

    async def execution(self, request: Request) -> Response:
        """Stream an execution from its first event, or from after the client's last id."""
        tenant, execution = tenant_of(request, self._settings), execution_id_of(request)
        # Not to be waited for: an EventSource gets its first byte at once, or comes back.
        if reason := self._hub.refusal(tenant):
            return self._later(reason)
        view = View(EXECUTION, LogFilter(tenant, execution))
        try:
            start = await resume(self._log, self._hub, view, _last_event_id(request))
        except UnavailableError as error:
            return self._unavailable(error)
        return self._stream(view, start)

    async def run_and_stream(self, request: Request) -> Response:
        """Start a run and stream it; with a last id, go on with the run that has it."""
        tenant = tenant_of(request, self._settings)
        key = idempotency_key_of(request)
        body = await read_object(request, self._settings.max_body_bytes)
        # What is started is to be watched, too. Without NATS nothing is started, which is a problem
        # and no stream.
        if (reason := self._hub.refusal(tenant)) and reason != "disconnected":
            return self._later(reason)
        if last_event_id := _last_event_id(request):
            return await self._go_on(tenant, last_event_id)
        flow_id = _flow_id(body)
        run_input = {} if (given := body.get("input_data")) is None else given
        state = await self._starter.start(
            RunRequest(tenant, flow_id, "input_data", run_input, body, key)
        )
        # Whatever has changed meanwhile: refused now, the client would come back for another run.
        view = _watching(tenant, state.execution_id)
        return EventStream(self._hub, view, Start(), self._writing)

    async def _go_on(self, tenant: str, last_event_id: str) -> Response:
        try:
            found = await find(self._log, self._hub.replay, self._hub.epoch, last_event_id)
        except UnavailableError as error:
            return self._unavailable(error)
        if isinstance(found, Found) and found.tenant == tenant:
            return self._stream(_watching(tenant, found.execution), found.start())
        # Which run it was cannot be told any more, and to start another would be a surprise.
        return whole_stream(reset(found.reason if isinstance(found, Lost) else "unknown", None))

    def _stream(self, view: View, start: Start) -> Response:
        if start.is_over:
            # The one answer on which a browser's EventSource stops to reconnect.
            return Response(status_code=204)
        # Others may have come while the log was read.
        if reason := self._hub.refusal(view.part.tenant):
            return self._later(reason)
        return EventStream(self._hub, view, start, self._writing)

    def _unavailable(self, error: UnavailableError) -> Response:
        return self._later("busy" if isinstance(error, ReplayBusyError) else "unavailable")

    def _later(self, reason: str) -> Response:
        return come_back_later(self._hub.refuse(reason))


def _watching(tenant: str, execution: str) -> View:
    return View(RUN_AND_STREAM, LogFilter(tenant, execution))


def _last_event_id(request: Request) -> str:
    query = request.query_params
    header = request.headers.get("last-event-id")
    return header or query.get("last_event_id") or query.get("lastEventId", "")


def _flow_id(body: dict[str, Any]) -> str:
    flow_id = body.get("flow_id")
    # Some front ends number their flows.
    if isinstance(flow_id, int) and not isinstance(flow_id, bool):
        return str(flow_id)
    if not isinstance(flow_id, str):
        detail = "flow_id is the id of a workflow"
        raise RefusedError(422, detail, [Problem("/flow_id", detail)])
    return flow_id
