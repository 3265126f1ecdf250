"""Commands: what is asked of an execution that exists. 202 means that it is in the log."""

from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tailrace_api.idempotency_key import idempotency_key_of
from tailrace_api.json_body import read_object, refuse_unknown
from tailrace_api.json_response import json_response
from tailrace_api.problems import RefusedError
from tailrace_api.routes.executions import accepted, execution_id_of, location_of
from tailrace_api.tenancy import actor_of, tenant_of
from tailrace_shared.commander import Asker, Commander, Decision
from tailrace_shared.run_starter import RunStarter
from tailrace_shared.settings import ApiSettings
from tailrace_shared.workflow.problems import Problem, nearest

_LONGEST_REASON: Final = 1000
_LONGEST_ID: Final = 64
_DECISIONS: Final = ("approved", "rejected")


class CommandRoutes:
    """The routes under ``/api/v1/executions/{execution_id}`` that change an execution."""

    def __init__(self, settings: ApiSettings, commander: Commander, starter: RunStarter) -> None:
        self._settings = settings
        self._commander = commander
        self._starter = starter

    def routes(self) -> list[Route]:
        """Return the routing table."""
        one = "/api/v1/executions/{execution_id}"
        return [
            Route(f"{one}/cancel", self.cancel, methods=["POST"]),
            Route(f"{one}/pause", self.pause, methods=["POST"]),
            Route(f"{one}/resume", self.resume, methods=["POST"]),
            Route(f"{one}/rerun", self.rerun, methods=["POST"]),
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
        body = {**accepted(state), "rerun_of": state.rerun_of, "from_node": state.from_node}
        return json_response(body, 202, {"location": location_of(state)})

    def _asked(self, request: Request) -> tuple[str, str, Asker]:
        by = Asker(actor_of(request), idempotency_key_of(request))
        return tenant_of(request, self._settings), execution_id_of(request), by

    async def _body(self, request: Request, *known: str) -> dict[str, Any]:
        body = await read_object(request, self._settings.max_body_bytes, if_empty={})
        refuse_unknown(body, *known)
        return body


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
