"""Commands: what is asked of an execution that exists. 202 means that it is in the log."""

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from tailrace_api.idempotency_key import IDEMPOTENCY_KEY, idempotency_key_of
from tailrace_api.json_body import read_object, refuse_unknown
from tailrace_api.json_response import json_response
from tailrace_api.operation import Answer, Handler, Operation
from tailrace_api.problems import RefusedError
from tailrace_api.routes.executions import Accepted, accepted, execution_id_of, location_of
from tailrace_api.tenancy import actor_of, tenant_of
from tailrace_shared.commander import Asker, Commander, Decision
from tailrace_shared.run_starter import RunStarter
from tailrace_shared.settings import ApiSettings
from tailrace_shared.workflow.problems import Problem, nearest

_LONGEST_REASON: Final = 1000
_LONGEST_ID: Final = 64
_DECISIONS: Final = ("approved", "rejected")

_IN_LOG: Final = Answer(Accepted, "The command is in the log.")

NodeId = Annotated[str, Meta(min_length=1, max_length=_LONGEST_ID)]


class Reason(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """Why an execution is to stop.

    Attributes:
        reason: in the words of whoever asks.
    """

    reason: Annotated[str, Meta(max_length=_LONGEST_REASON)] | None = None


class Resumption(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """A signal for a step that waits, or, empty, the end of a pause.

    Attributes:
        node_id: the step; it may be left out where only one waits.
        decision: ``approved`` if it is left out.
        data: what the step is given.
    """

    node_id: NodeId | None = None
    decision: Literal["approved", "rejected"] | None = None
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

    def __init__(self, settings: ApiSettings, commander: Commander, starter: RunStarter) -> None:
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
                Answer(Rerun, "The new run is in the log."),
            ),
        ]

    async def cancel(self, request: Request) -> Response:
        """Ask for the end of an execution."""
        tenant, execution, by = self._asked(request)
        reason = _reason(await self._body(request, "reason"))
        state = await self._commander.cancel(tenant, execution, reason, by)
        return json_response(accepted(state), 202)

    async def pause(self, request: Request) -> Response:
        """Ask that nothing new starts."""
        tenant, execution, by = self._asked(request)
        reason = _reason(await self._body(request, "reason"))
        state = await self._commander.pause(tenant, execution, reason, by)
        return json_response(accepted(state), 202)

    async def resume(self, request: Request) -> Response:
        """Give a waiting step its signal, or let a held execution go on."""
        tenant, execution, by = self._asked(request)
        body = await self._body(request, "node_id", "decision", "data")
        decision = _decision(body)
        if decision is None:
            state = await self._commander.resume(tenant, execution, by)
        else:
            state = await self._commander.resolve(tenant, execution, decision, by)
        return json_response(accepted(state), 202)

    async def rerun(self, request: Request) -> Response:
        """Run an execution that has ended again, from its start or from a node."""
        tenant, execution, by = self._asked(request)
        from_node = _id(await self._body(request, "from_node"), "from_node")
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
) -> Operation:
    return Operation(
        "POST",
        path,
        handler,
        scope="executions:write",
        summary=summary,
        answers={202: answer},
        problems=(404, 409),
        body=body,
        is_body_required=False,
        parameters=(IDEMPOTENCY_KEY,),
    )


def _reason(body: dict[str, Any]) -> str:
    reason = body.get("reason")
    if reason is None:
        return ""
    if not isinstance(reason, str) or len(reason) > _LONGEST_REASON:
        raise _refused("/reason", f"reason is a text of at most {_LONGEST_REASON} characters")
    return reason


def _decision(body: dict[str, Any]) -> Decision | None:
    """Return the signal that a body means; None if it names neither step, decision nor data."""
    node_id, decision, data = _id(body, "node_id"), body.get("decision"), body.get("data")
    if node_id is None and decision is None and data is None:
        return None
    if decision is not None and decision not in _DECISIONS:
        near = nearest(decision, _DECISIONS) if isinstance(decision, str) else ""
        raise _refused("/decision", f"decision is one of {', '.join(_DECISIONS)}{near}")
    return Decision(node_id, decision or "approved", data)


def _id(body: dict[str, Any], field: str) -> str | None:
    value = body.get(field)
    if value is not None and not (isinstance(value, str) and 0 < len(value) <= _LONGEST_ID):
        raise _refused(f"/{field}", f"{field} is the id of a node")
    return value


def _refused(place: str, detail: str) -> RefusedError:
    return RefusedError(422, detail, [Problem(place, detail)])
