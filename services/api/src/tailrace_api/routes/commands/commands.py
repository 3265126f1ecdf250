"""Commands: what is asked of an execution that exists. 202 means that it is in the log."""

from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from tailrace_api.auth.tenancy import actor_of, tenant_of
from tailrace_api.routes.commands.command_body import (
    DecisionText,
    NodeId,
    ReasonText,
    decision_of,
    node_of,
    reason_of,
)
from tailrace_api.routes.executions import Accepted, accepted, execution_id_of, location_of
from tailrace_api.web.idempotency_key import IDEMPOTENCY_KEY, idempotency_key_of
from tailrace_api.web.json_body import read_object, refuse_unknown
from tailrace_api.web.json_response import json_response
from tailrace_api.web.operation import Answer, Handler, Operation
from tailrace_shared.commands.execution_commands import Asker, ExecutionCommands
from tailrace_shared.commands.run_starter import RunStarter
from tailrace_shared.settings import ApiSettings

_IN_LOG: Final = Answer(Accepted, "The command is in the log.")


class Reason(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """Why an execution is to stop.

    Attributes:
        reason: in the words of whoever asks.
    """

    reason: ReasonText | None = None


class Resumption(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """A signal for a step that waits, or, empty, the end of a pause.

    Attributes:
        node_id: the step; it may be left out where only one waits.
        decision: ``approved`` if it is left out.
        data: what the step is given.
    """

    node_id: NodeId | None = None
    decision: DecisionText | None = None
    data: Any = None


class Again(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """From where an execution is to run again.

    Attributes:
        from_node: the node to begin with; the start if it is left out.
    """

    from_node: NodeId | None = None


class Rerun(Accepted):
    """A run that runs an execution again.

    Attributes:
        rerun_of: that execution.
        from_node: the node from which.
    """

    rerun_of: str | None
    from_node: str | None


class CommandRoutes:
    """The routes under ``/api/v1/executions/{execution_id}`` that change an execution."""

    def __init__(
        self, settings: ApiSettings, commander: ExecutionCommands, starter: RunStarter
    ) -> None:
        self._settings = settings
        self._commander = commander
        self._starter = starter

    def routes(self) -> list[Operation]:
        """Return the routing table."""
        one = "/api/v1/executions/{execution_id}"
        return [
            _command(f"{one}/cancel", self.cancel, Reason, "Cancel an execution"),
            _command(f"{one}/pause", self.pause, Reason, "Pause an execution: nothing new starts"),
            _command(
                f"{one}/resume",
                self.resume,
                Resumption,
                "Give a waiting step its signal, or let a paused execution go on",
            ),
            _command(
                f"{one}/rerun",
                self.rerun,
                Again,
                "Run an execution that has ended again, from its start or from a node",
                Answer(Rerun, "The new run is in the log.", headers=("Location",)),
                (404, 409, 429),
            ),
        ]

    async def cancel(self, request: Request) -> Response:
        """Ask for the end of an execution."""
        tenant, execution, by = self._asked(request)
        reason = reason_of(await self._body(request, "reason"))
        state = await self._commander.cancel(tenant, execution, reason, by)
        return json_response(accepted(state), 202)

    async def pause(self, request: Request) -> Response:
        """Ask that nothing new starts."""
        tenant, execution, by = self._asked(request)
        reason = reason_of(await self._body(request, "reason"))
        state = await self._commander.pause(tenant, execution, reason, by)
        return json_response(accepted(state), 202)

    async def resume(self, request: Request) -> Response:
        """Give a waiting step its signal, or let a held execution go on."""
        tenant, execution, by = self._asked(request)
        body = await self._body(request, "node_id", "decision", "data")
        decision = decision_of(body)
        if decision is None:
            state = await self._commander.resume(tenant, execution, by)
        else:
            state = await self._commander.resolve(tenant, execution, decision, by)
        return json_response(accepted(state), 202)

    async def rerun(self, request: Request) -> Response:
        """Run an execution that has ended again, from its start or from a node."""
        tenant, execution, by = self._asked(request)
        from_node = node_of(await self._body(request, "from_node"), "from_node")
        state = await self._starter.rerun(tenant, execution, from_node, by.key)
        body = Rerun(
            **msgspec.structs.asdict(accepted(state)),
            rerun_of=state.rerun_of,
            from_node=state.from_node,
        )
        return json_response(body, 202, {"location": location_of(state)})

    def _asked(self, request: Request) -> tuple[str, str, Asker]:
        by = Asker(actor_of(request), idempotency_key_of(request))
        return tenant_of(request, self._settings), execution_id_of(request), by

    async def _body(self, request: Request, *known: str) -> dict[str, Any]:
        body = await read_object(request, self._settings.max_body_bytes, if_empty={})
        refuse_unknown(body, *known)
        return body


def _command(
    path: str,
    handler: Handler,
    body: type[msgspec.Struct],
    summary: str,
    answer: Answer = _IN_LOG,
    problems: tuple[int, ...] = (404, 409),
) -> Operation:
    return Operation(
        "POST",
        path,
        handler,
        scope="executions:write",
        summary=summary,
        answers={202: answer},
        problems=problems,
        body=body,
        is_body_required=False,
        parameters=(IDEMPOTENCY_KEY,),
    )
