"""Commands to existing executions. The response 202 means that the command is in the log."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from tailrace_api.auth.tenancy import actor_of, tenant_of
from tailrace_api.fanout.hub import Hub
from tailrace_api.routes.commands.command_body import (
    MAX_STEP_ID_CHARS,
    DecisionText,
    NodeId,
    ReasonText,
    StepId,
    Version,
    decision_of,
    flag_of,
    node_of,
    reason_of,
    version_of,
)
from tailrace_api.routes.executions import Accepted, accepted, execution_id_of, location_of
from tailrace_api.web.idempotency_key import IDEMPOTENCY_KEY, idempotency_key_of
from tailrace_api.web.json_body import read_object, refuse_unknown
from tailrace_api.web.json_response import json_response
from tailrace_api.web.operation import Answer, operation
from tailrace_api.web.problems import unprocessable
from tailrace_shared.commands.execution_commands import Caller, Commanded, ExecutionCommands
from tailrace_shared.commands.run_starter import RunStarter
from tailrace_shared.position import StreamPosition
from tailrace_shared.settings import ApiSettings

F = TypeVar("F", bound=Callable[..., Any])


class CommandAccepted(Accepted):
    """An execution whose command was accepted.

    Attributes:
        command_id: The id of the command in the log.
        event_id: The id of its event in the execution's stream; null if an earlier copy of the
            request is in the log.
    """

    command_id: str
    event_id: str | None


_IN_LOG: Final = Answer(CommandAccepted, "The command is in the log.")


class Reason(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """The reason for a cancellation or pause.

    Attributes:
        reason: The reason, recorded in the log.
    """

    reason: ReasonText | None = None


class Resumption(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """A signal for a waiting step; an empty body resumes a paused execution.

    Attributes:
        node_id: The step; optional if only one step waits.
        decision: The decision; ``approved`` by default.
        data: The data for the step.
        only_paused: Whether only an execution continues that a request has paused. No step is
            decided: without such a pause the answer is 409.
    """

    node_id: NodeId | None = None
    decision: DecisionText | None = None
    data: Any = None
    only_paused: bool = False


class Again(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """The steps that a rerun runs again; by default all, with the same version and input.

    Attributes:
        from_node: The node to start from, or the item of a map (``pages[3]``): it runs again, and
            so does what depends on it.
        failed: Whether only the steps that have not succeeded run again, and what depends on them.
        version: The version of the workflow to run. Nodes that it changes run again.
        input: Another input. Nodes that read a field that it changes run again.
    """

    from_node: StepId | None = None
    failed: bool = False
    version: Version | None = None
    input: Any = {}


class Rerun(Accepted):
    """A rerun of an execution.

    Attributes:
        rerun_of: The original execution.
        from_node: The node or item that it starts from.
        version: The version of the workflow that it runs.
        failed: Whether it runs only the steps again that had not succeeded.
    """

    rerun_of: str | None
    from_node: str | None
    version: int
    failed: bool


def _command(
    name: str,
    body: type[msgspec.Struct],
    answer: Answer = _IN_LOG,
    problems: tuple[int, ...] = (404, 409, 410),
) -> Callable[[F], F]:
    return operation(
        "POST",
        f"/api/v1/executions/{{execution_id}}/{name}",
        scope="executions:write",
        answers={202: answer},
        problems=problems,
        body=body,
        is_body_required=False,
        parameters=(IDEMPOTENCY_KEY,),
    )


def event_id_of(commanded: Commanded, hub: Hub) -> str | None:
    """Return the id of a command's event in the execution's stream, if it was recorded now."""
    if commanded.sequence is None:
        return None
    return str(StreamPosition(hub.runtime.epoch, commanded.sequence, 0))


@dataclass(frozen=True, slots=True)
class CommandRoutes:
    """The command routes under ``/api/v1/executions/{execution_id}``."""

    settings: ApiSettings
    hub: Hub
    commands: ExecutionCommands
    starter: RunStarter

    @_command("cancel", Reason)
    async def cancel(self, request: Request) -> Response:
        """Cancel an execution."""
        tenant, execution, by = self._command_of(request)
        reason = reason_of(await self._body(request, "reason"))
        return self._accepted(await self.commands.cancel(tenant, execution, reason, by))

    @_command("pause", Reason)
    async def pause(self, request: Request) -> Response:
        """Pause an execution: no new steps start."""
        tenant, execution, by = self._command_of(request)
        reason = reason_of(await self._body(request, "reason"))
        return self._accepted(await self.commands.pause(tenant, execution, reason, by))

    @_command("resume", Resumption)
    async def resume(self, request: Request) -> Response:
        """Send a signal to a waiting step, or resume a paused execution."""
        tenant, execution, by = self._command_of(request)
        body = await self._body(request, "node_id", "decision", "data", "only_paused")
        decision, only_paused = decision_of(body), flag_of(body, "only_paused")
        if decision is None:
            commanded = await self.commands.resume(tenant, execution, by, only_paused=only_paused)
        elif only_paused:
            raise unprocessable("/only_paused", "a decision is for a step, only_paused for a pause")
        else:
            commanded = await self.commands.resolve(tenant, execution, decision, by)
        return self._accepted(commanded)

    @_command(
        "rerun",
        Again,
        Answer(Rerun, "The new run is in the log.", headers=("Location",)),
        (404, 409, 410, 429),
    )
    async def rerun(self, request: Request) -> Response:
        """Run a finished execution again, from its start, a node, an item, or what has failed.

        A rerun keeps the outputs of the steps that it does not run again.
        """
        tenant, execution, by = self._command_of(request)
        body = await self._body(request, "from_node", "failed", "version", "input")
        state = await self.starter.rerun(
            tenant,
            execution,
            node_of(body, "from_node", MAX_STEP_ID_CHARS),
            by.key,
            failed=flag_of(body, "failed"),
            version=version_of(body),
            new_input=body.get("input", msgspec.UNSET),
        )
        answer = Rerun(
            **msgspec.structs.asdict(accepted(state)),
            rerun_of=state.rerun_of,
            from_node=state.from_node,
            version=state.version,
            failed=state.reruns_failed,
        )
        return json_response(answer, 202, {"location": location_of(state)})

    def _accepted(self, commanded: Commanded) -> Response:
        body = CommandAccepted(
            **msgspec.structs.asdict(accepted(commanded.state)),
            command_id=commanded.command_id,
            event_id=event_id_of(commanded, self.hub),
        )
        return json_response(body, 202)

    def _command_of(self, request: Request) -> tuple[str, str, Caller]:
        by = Caller(actor_of(request), idempotency_key_of(request))
        return tenant_of(request, self.settings), execution_id_of(request), by

    async def _body(self, request: Request, *known: str) -> dict[str, Any]:
        body = await read_object(request, self.settings.max_body_bytes, if_empty={})
        refuse_unknown(body, *known)
        return body
