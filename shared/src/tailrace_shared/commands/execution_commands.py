"""Record commands on executions durably; a worker then applies them.

The order of the steps makes an accepted command safe. The due index names the execution before the
command is in its log, so the sweeper enforces the command even if the API process dies between the
append and the job.
"""

import hashlib
import time
from typing import Any, Final, NamedTuple

import msgspec

from tailrace_shared.commands.job_publisher import JobPublisher
from tailrace_shared.commands.run_input import InvalidInputError, check_in_time
from tailrace_shared.commands.time_limit import repeated, within_limit
from tailrace_shared.errors import IllegalCommandError, WorkflowNotFoundError
from tailrace_shared.execution import commands
from tailrace_shared.execution.events import MAX_VALUE_BYTES, Command
from tailrace_shared.execution.state import ExecutionState, awaits_signal
from tailrace_shared.ids import new_token
from tailrace_shared.process.fair_threads import FairThreads
from tailrace_shared.stores.execution_log import Decide
from tailrace_shared.stores.log_records import History, Recorded
from tailrace_shared.stores.stores import Stores
from tailrace_shared.workflow.problem_report import Problem, nearest
from tailrace_shared.workflow.schemas.input_schema import compile_schema

"""Larger data is validated in a thread, so that it does not block the event loop."""


class Caller(NamedTuple):
    """The caller of a command, and the idempotency key of its request.

    Attributes:
        actor: the caller's name; empty if unknown.
        key: the idempotency key; None makes every request a new command.
    """

    actor: str = ""
    key: str | None = None

    def command_id(self, execution: str, command: str) -> str:
        """Return the id of a command on an execution: the same for each repetition of a request."""
        if self.key is None:
            return new_token()
        return hashlib.sha256(f"{execution}\0{command}\0{self.key}".encode()).hexdigest()[:32]


ANONYMOUS: Final = Caller()


class Decision(NamedTuple):
    """The signal for a waiting step.

    Attributes:
        node_id: the step; None for the only one that waits.
    """

    node_id: str | None = None
    decision: str = "approved"
    data: Any = None


class Commanded(NamedTuple):
    """An accepted command.

    Attributes:
        state: the execution after it.
        command_id: the id of the command in the log.
        sequence: the sequence of the commit that records it; None if an earlier one does.
    """

    state: ExecutionState
    command_id: str
    sequence: int | None


class ExecutionCommands:
    """Accepts commands, each on exactly the state that allows it.

    Every method returns the command with the state after it. A repeated request records nothing
    new. Each reads and folds the log once, and raises:

        ExecutionNotFoundError: the tenant has no such execution.
        IllegalCommandError: its state does not allow the command.
        UnavailableError: NATS did not answer; the command may or may not be accepted.
    """

    def __init__(self, stores: Stores, jobs: JobPublisher, threads: FairThreads) -> None:
        self._log = stores.log
        self._due = stores.due
        self._workflows = stores.workflows
        self._jobs = jobs
        self._threads = threads

    @within_limit
    async def cancel(
        self, tenant: str, execution: str, reason: str = "", by: Caller = ANONYMOUS
    ) -> Commanded:
        """Request that an execution ends."""
        command_id = by.command_id(execution, "cancel")
        return await self._request(
            tenant,
            execution,
            command_id,
            lambda state: commands.request_cancel(state, command_id, reason, time.time(), by.actor),
        )

    @within_limit
    async def pause(
        self, tenant: str, execution: str, reason: str = "", by: Caller = ANONYMOUS
    ) -> Commanded:
        """Request that an execution starts no more steps until it is resumed."""
        command_id = by.command_id(execution, "pause")
        return await self._request(
            tenant,
            execution,
            command_id,
            lambda state: commands.request_pause(state, command_id, reason, time.time(), by.actor),
        )

    @within_limit
    async def resume(
        self, tenant: str, execution: str, by: Caller = ANONYMOUS, *, only_paused: bool = False
    ) -> Commanded:
        """Resume a paused execution; approve the waiting step of one that was not paused.

        Args:
            tenant: the tenant of the execution.
            execution: its id.
            by: the caller, with its idempotency key.
            only_paused: refuse an execution that was not paused.

        Raises:
            IllegalCommandError: nothing can be resumed, or it was not paused.
            InvalidInputError: the waiting step requires data.
        """
        command_id = by.command_id(execution, "resume")
        history = await repeated(lambda _is_again: self._log.load_newest(tenant, execution))
        # A repeated request may have resumed the execution: the log knows which of the two it was.
        if only_paused or history.state.is_held or command_id in history.state.commands:
            return await self._request(
                tenant,
                execution,
                command_id,
                lambda state: commands.request_resume(state, command_id, time.time(), by.actor),
                history,
            )
        return await self._resolve(tenant, execution, Decision(), by, history)

    @within_limit
    async def resolve(
        self, tenant: str, execution: str, decision: Decision, by: Caller = ANONYMOUS
    ) -> Commanded:
        """Signal a waiting step.

        Raises:
            InvalidInputError: there is no such node, or the step does not accept the data.
        """
        # From the leader, because a refusal must not come from a replica that lags.
        history = await repeated(lambda _is_again: self._log.load_newest(tenant, execution))
        return await self._resolve(tenant, execution, decision, by, history)

    async def _resolve(
        self, tenant: str, execution: str, decision: Decision, by: Caller, history: History
    ) -> Commanded:
        command_id = by.command_id(execution, "resume")
        if command_id not in history.state.commands:
            decision = await self._validated(tenant, history.state, decision)
        signal = Command(
            execution,
            "resolve",
            command_id,
            actor=by.actor,
            node_id=decision.node_id,
            decision=decision.decision,
            data=decision.data,
        )
        return await self._request(
            tenant,
            execution,
            command_id,
            lambda state: commands.request_resolve(state, signal, time.time()),
            history,
        )

    async def _request(
        self,
        tenant: str,
        execution: str,
        command_id: str,
        decide: Decide,
        history: History | None = None,
    ) -> Commanded:
        # The id of the command tells whether an earlier try has recorded it.
        recorded = await repeated(
            lambda is_again: self._request_once(
                tenant, execution, decide, None if is_again else history
            )
        )
        return Commanded(recorded.state, command_id, recorded.sequence)

    async def _request_once(
        self, tenant: str, execution: str, decide: Decide, history: History | None
    ) -> Recorded:
        history = history or await self._log.load(tenant, execution)
        if history.state.is_terminal:
            # Refused, or a repetition: there is nothing that a worker would have to apply.
            return await self._log.request(tenant, execution, decide, history)
        async with self._due.watched_request(tenant, execution):
            recorded = await self._log.request(tenant, execution, decide, history)
            # Also for a repetition: the first request may have died before it published a job.
            if not recorded.state.is_terminal:
                await self._jobs.advance(tenant, execution, overtakes=True)
        return recorded

    async def _validated(self, tenant: str, state: ExecutionState, decision: Decision) -> Decision:
        try:
            step = commands.signalled_step(state, decision.node_id)
        except IllegalCommandError:
            await self._check_node(tenant, state, decision.node_id)
            raise
        form = None if step.waiting is None else step.waiting.form
        data = await self._check_data(tenant, form, decision)
        return decision._replace(node_id=step.node_id, data=data)

    async def _check_node(self, tenant: str, state: ExecutionState, node_id: str | None) -> None:
        if node_id is None or node_id in state.steps:
            return
        try:
            stored = await self._workflows.get(tenant, state.workflow_id, state.version)
        except WorkflowNotFoundError:
            return
        nodes = stored.definition.all_nodes
        if node_id not in nodes:
            # A misspelt id most likely means a node that waits.
            waiting = [step.node_id for step in state.steps.values() if awaits_signal(step)]
            hint = nearest(node_id, waiting) or nearest(node_id, nodes)
            detail = f"there is no node {node_id!r}{hint}"
            raise InvalidInputError("there is no such step", [Problem("/node_id", detail)])

    async def _check_data(self, tenant: str, form: Any, decision: Decision) -> Any:
        """Validate the data of a decision, and return it with the defaults of the form."""
        size = len(msgspec.json.encode(decision.data))
        if size > MAX_VALUE_BYTES:
            detail = f"the data is {size} bytes of JSON; the limit is {MAX_VALUE_BYTES}"
            raise InvalidInputError(detail, [Problem("/data", detail)])
        # A rejection need not fill in the form of an approval.
        if form is None or (decision.data is None and decision.decision != "approved"):
            return decision.data
        value = {} if decision.data is None else decision.data
        checked = await check_in_time(
            self._threads, tenant, compile_schema(form), "data", value, size
        )
        if checked.problems:
            raise InvalidInputError("the data is not what the step asks for", checked.problems)
        return decision.data if checked.value == value else checked.value
