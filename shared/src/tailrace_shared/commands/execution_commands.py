"""What is asked of executions: accepted durably, then given to a worker to be applied.

The order of the steps is what makes an accepted command safe: the due index names the execution
before the command is in its log, so that it is looked after even if whoever asked dies between the
append and the job.
"""

import asyncio
import hashlib
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec

from tailrace_shared.commands.job_publisher import JobPublisher
from tailrace_shared.commands.run_input import InvalidInputError
from tailrace_shared.errors import IllegalCommandError, WorkflowNotFoundError
from tailrace_shared.execution import commands
from tailrace_shared.execution.events import MAX_VALUE_BYTES, Command, CommandRequested
from tailrace_shared.execution.state import ExecutionState, awaits_signal
from tailrace_shared.ids import new_token
from tailrace_shared.stores.stores import Stores
from tailrace_shared.workflow.problems import Problem, nearest
from tailrace_shared.workflow.schemas.input_schema import compile_schema, violations
from tailrace_shared.workflow.schemas.schema_validator import INLINE_SECONDS

_INLINE_BYTES: Final = 64 * 1024
"""Larger data is checked in a thread: what else runs on the loop must not wait for that."""

_Ask = Callable[[ExecutionState], CommandRequested | None]


class Asker(NamedTuple):
    """Who asks, and by which id a repeated request is known as the same.

    Attributes:
        actor: who; empty where nobody is known.
        key: an idempotency key; None makes every request another.
    """

    actor: str = ""
    key: str | None = None

    def command_id(self, execution: str, command: str) -> str:
        """Return the id of a command on an execution."""
        if self.key is None:
            return new_token()
        return hashlib.sha256(f"{execution}\0{command}\0{self.key}".encode()).hexdigest()[:32]


NOBODY: Final = Asker()


class Decision(NamedTuple):
    """The signal for a waiting step.

    Attributes:
        node_id: the step; None for the only one that waits.
        decision: what was decided.
        data: what was entered with it.
    """

    node_id: str | None = None
    decision: str = "approved"
    data: Any = None


class ExecutionCommands:
    """Accepts commands, each on the very state that allows it.

    Every method returns the execution's state as the command found it or made it, does nothing
    more for what was asked before, and raises:

        ExecutionNotFoundError: the tenant has no such execution.
        IllegalCommandError: its state does not allow the command.
        UnavailableError: NATS did not answer; the command may or may not be accepted.
    """

    def __init__(self, stores: Stores, jobs: JobPublisher) -> None:
        self._log = stores.log
        self._due = stores.due
        self._workflows = stores.workflows
        self._jobs = jobs

    async def cancel(
        self, tenant: str, execution: str, reason: str = "", by: Asker = NOBODY
    ) -> ExecutionState:
        """Ask for the end of an execution."""
        command_id = by.command_id(execution, "cancel")
        return await self._ask(
            tenant,
            execution,
            lambda state: commands.request_cancel(state, command_id, reason, time.time(), by.actor),
        )

    async def pause(
        self, tenant: str, execution: str, reason: str = "", by: Asker = NOBODY
    ) -> ExecutionState:
        """Ask that nothing new starts."""
        command_id = by.command_id(execution, "pause")
        return await self._ask(
            tenant,
            execution,
            lambda state: commands.request_pause(state, command_id, reason, time.time(), by.actor),
        )

    async def resume(self, tenant: str, execution: str, by: Asker = NOBODY) -> ExecutionState:
        """Ask that a held execution goes on; of one that is not, approve the step that waits.

        Raises:
            InvalidInputError: that step asks for data.
        """
        command_id = by.command_id(execution, "resume")
        state = await self._newest(tenant, execution)
        # Asked before it may have held the execution: which of the two it was, the log knows.
        if state.is_held or command_id in state.commands:
            return await self._ask(
                tenant,
                execution,
                lambda state: commands.request_resume(state, command_id, time.time(), by.actor),
            )
        return await self.resolve(tenant, execution, Decision(), by)

    async def resolve(
        self, tenant: str, execution: str, decision: Decision, by: Asker = NOBODY
    ) -> ExecutionState:
        """Give a waiting step its signal.

        Raises:
            InvalidInputError: there is no such node, or the data is not what the step asks for.
        """
        command_id = by.command_id(execution, "resume")
        state = await self._newest(tenant, execution)
        if command_id not in state.commands:
            decision = await self._checked(tenant, state, decision)
        signal = Command(
            execution,
            "resolve",
            command_id,
            actor=by.actor,
            node_id=decision.node_id,
            decision=decision.decision,
            data=decision.data,
        )
        return await self._ask(
            tenant, execution, lambda state: commands.request_resolve(state, signal, time.time())
        )

    async def _ask(self, tenant: str, execution: str, ask: _Ask) -> ExecutionState:
        state = (await self._log.load(tenant, execution)).state
        if state.is_terminal:
            # Refused, or asked before: there is nothing that anybody need look after.
            return await self._log.request(tenant, execution, ask)
        async with self._due.asking(tenant, execution):
            state = await self._log.request(tenant, execution, ask)
            # Also for what was asked before: whoever asked may have died before it told a worker.
            if not state.is_terminal:
                await self._jobs.advance(tenant, execution)
        return state

    async def _newest(self, tenant: str, execution: str) -> ExecutionState:
        """Return the state as the log's leader has it: what is refused must not be out of date."""
        return (await self._log.load_newest(tenant, execution)).state

    async def _checked(self, tenant: str, state: ExecutionState, decision: Decision) -> Decision:
        try:
            step = commands.signalled_step(state, decision.node_id)
        except IllegalCommandError:
            await self._check_node(tenant, state, decision.node_id)
            raise
        form = None if step.waiting is None else step.waiting.form
        await _check_data(form, decision)
        return decision._replace(node_id=step.node_id)

    async def _check_node(self, tenant: str, state: ExecutionState, node_id: str | None) -> None:
        if node_id is None or node_id in state.steps:
            return
        try:
            stored = await self._workflows.get(tenant, state.workflow_id, state.version)
        except WorkflowNotFoundError:
            return
        nodes = stored.definition.nodes
        if node_id not in nodes:
            # Of all nodes those that wait are meant most likely.
            waiting = [step.node_id for step in state.steps.values() if awaits_signal(step)]
            hint = nearest(node_id, waiting) or nearest(node_id, nodes)
            detail = f"there is no node {node_id!r}{hint}"
            raise InvalidInputError("there is no such step", [Problem("/node_id", detail)])


async def _check_data(form: Any, decision: Decision) -> None:
    size = len(msgspec.json.encode(decision.data))
    if size > MAX_VALUE_BYTES:
        detail = f"the data is {size} bytes of JSON; the limit is {MAX_VALUE_BYTES}"
        raise InvalidInputError(detail, [Problem("/data", detail)])
    # Who rejects need not fill in what is asked of those who approve.
    if form is None or (decision.data is None and decision.decision != "approved"):
        return
    value = {} if decision.data is None else decision.data
    validator = compile_schema(form)
    if size <= _INLINE_BYTES:
        problems = violations(validator, "data", value, INLINE_SECONDS)
    else:
        problems = await asyncio.to_thread(violations, validator, "data", value)
    if problems:
        raise InvalidInputError("the data is not what the step asks for", problems)
