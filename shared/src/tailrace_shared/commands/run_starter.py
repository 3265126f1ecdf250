"""Starting runs: once for each idempotency key, and never half.

The order of the steps is what makes a repeated request safe after any of them: the key's entry
decides the execution's id and version, the due index is told that somebody must drive it (and the
live index that it will be there), the log
of that id is created or was, and a run that is still queued is given to the workers (again: a
second job for an execution finds nothing to do).
"""

import asyncio
import hashlib
from typing import Any, Final, NamedTuple

import msgspec

from tailrace_shared.commands.job_publisher import JobPublisher
from tailrace_shared.commands.run_input import InputCheck, InvalidInputError
from tailrace_shared.commands.start_rate_limit import StartRateLimit
from tailrace_shared.errors import (
    ExecutionNotFoundError,
    IdempotencyConflictError,
    IllegalCommandError,
    WorkflowNotFoundError,
)
from tailrace_shared.execution.events import Origin
from tailrace_shared.execution.state import ExecutionState
from tailrace_shared.ids import check_id, new_execution_id
from tailrace_shared.stores.indexes.due_index import NOW
from tailrace_shared.stores.stores import Stores
from tailrace_shared.stores.workflow_store import StoredWorkflow
from tailrace_shared.workflow.sensitive_fields import sensitive_pointers
from tailrace_shared.workflow.validation import Problem

_NO_ORIGIN: Final = Origin()


class RunRequest(NamedTuple):
    """What a client, or a schedule, asks for.

    Attributes:
        tenant: who asks.
        workflow_id: what to run.
        field: what the input is called where it was asked for.
        input: the input.
        body: the whole body, by which a repeated request is known as the same.
        key: its idempotency key, if it has one.
    """

    tenant: str
    workflow_id: str
    field: str
    input: Any
    body: Any
    key: str | None


class _Entry(msgspec.Struct):
    execution_id: str
    version: int
    body_sha256: str


class RunStarter:
    """Brings runs into being and gives them to the workers.

    Args:
        stores: the log, the indexes, the definitions and the idempotency keys.
        jobs: where a started run's first job is published.
        rate_limit: the limit on runs that a tenant may start, or None for no limit. Neither child
            runs count nor scheduled ones, because no client would be there to retry them.
    """

    def __init__(
        self,
        stores: Stores,
        jobs: JobPublisher,
        rate_limit: StartRateLimit | None = None,
    ) -> None:
        self._log = stores.log
        self._workflows = stores.workflows
        self._runs = stores.runs
        self._due = stores.due
        self._live = stores.live
        self._keys = stores.idempotency
        self._jobs = jobs
        self._inputs = InputCheck()
        self._rate_limit = rate_limit

    async def start(self, request: RunRequest) -> ExecutionState:
        """Start a run, or return the one that this request has started before.

        Raises:
            InvalidInputError: the workflow does not take the input.
            WorkflowNotFoundError: the tenant has no such workflow.
            IdempotencyConflictError: the key belongs to another request.
            TooManyRunsError: the tenant may not start another one now.
            UnavailableError: NATS did not answer; the same request may be sent again.
        """
        check_id(request.workflow_id, "workflow")
        execution_id, workflow = await self._claim(request)
        return await self._create(request.tenant, execution_id, workflow, request.input)

    async def start_child(
        self, tenant: str, execution_id: str, workflow_id: str, run_input: Any, origin: Origin
    ) -> ExecutionState:
        """Start the child run of a step, or return the one that was started before.

        Args:
            tenant: whose.
            execution_id: the child's id, which its parent has recorded.
            workflow_id: what to run, in its newest version.
            run_input: the child's input.
            origin: its parent and depth.

        Raises:
            InvalidInputError, WorkflowNotFoundError, InvalidIdError, UnavailableError: as
                :meth:`start`.
        """
        try:
            state = (await self._log.load(tenant, execution_id)).state
        except ExecutionNotFoundError:
            check_id(workflow_id, "workflow")
            workflow = await self._workflows.get(tenant, workflow_id)
            await self._inputs.check(tenant, workflow, "input", run_input)
            return await self._create(tenant, execution_id, workflow, run_input, origin)
        await self._give(tenant, state)
        return state

    async def rerun(
        self, tenant: str, execution_id: str, from_node: str | None, key: str | None
    ) -> ExecutionState:
        """Run an execution again, or return the run that this request has started before.

        Args:
            tenant: whose.
            execution_id: the execution to run again, with its version and input.
            from_node: the node to begin with; None for the start.
            key: the request's idempotency key, if it has one.

        Raises:
            ExecutionNotFoundError: the tenant has no such execution, or not all of its log.
            IllegalCommandError: it has not ended.
            InvalidInputError: it has no node ``from_node``.
            WorkflowNotFoundError: its version of the workflow is not stored any more.
            IdempotencyConflictError: the key belongs to another request.
            TooManyRunsError: the tenant may not start another one now.
            UnavailableError: NATS did not answer; the same request may be sent again.
        """
        original = (await self._log.load(tenant, check_id(execution_id, "execution"))).state
        if not original.is_terminal:
            raise IllegalCommandError(
                f"the execution is {original.status}; only one that has ended can be run again"
            )
        workflow = await self._workflows.get(tenant, original.workflow_id, original.version)
        if from_node is not None and from_node not in workflow.definition.nodes:
            detail = f"version {workflow.version} has no node {from_node!r}"
            raise InvalidInputError(
                "the execution cannot be run again from there", [Problem("/from_node", detail)]
            )
        rerun_id = await self._claim_rerun(tenant, original, from_node, key)
        marks = tuple(original.sensitive)
        origin = Origin(rerun_of=execution_id, from_node=from_node, sensitive=marks)
        return await self._create(tenant, rerun_id, workflow, original.input, origin)

    async def check(self, request: RunRequest) -> None:
        """Check that a run could be started so.

        Raises:
            InvalidInputError, WorkflowNotFoundError, InvalidIdError: as :meth:`start`.
        """
        check_id(request.workflow_id, "workflow")
        await self._checked_workflow(request)

    async def sensitive_input(self, tenant: str, workflow_id: str, run_input: Any) -> list[str]:
        """Return the places in an input that nobody is shown; all of it if nobody can tell.

        Raises:
            UnavailableError: NATS did not answer.
        """
        try:
            workflow = await self._workflows.get(tenant, workflow_id)
        except WorkflowNotFoundError:
            return [""]
        return sensitive_pointers(workflow.definition.input, run_input)

    async def _create(
        self,
        tenant: str,
        execution_id: str,
        workflow: StoredWorkflow,
        run_input: Any,
        origin: Origin = _NO_ORIGIN,
    ) -> ExecutionState:
        await asyncio.gather(
            self._due.put(tenant, execution_id, NOW),
            self._live.put(tenant, workflow.definition.id, execution_id),
        )
        state = await self._log.create(tenant, execution_id, workflow, run_input, origin)
        if state is None:
            state = (await self._log.load(tenant, execution_id)).state
            if state.is_terminal:
                # Entered again for nothing. Its result may not be written yet, and must be before
                # it is struck out: a worker does both, in that order.
                await self._jobs.advance(tenant, execution_id)
        await self._give(tenant, state)
        return state

    async def _give(self, tenant: str, state: ExecutionState) -> None:
        if state.status == "queued":
            await asyncio.gather(
                self._jobs.advance(tenant, state.execution_id), self._runs.put(tenant, state)
            )

    async def _claim(self, request: RunRequest) -> tuple[str, StoredWorkflow]:
        if request.key is None:
            return new_execution_id(), await self._admitted(request)
        key = _bucket_key(request.tenant, request.workflow_id, request.key)
        digest = _digest(request.body)
        held = await self._held(key)
        if held is None:
            workflow = await self._admitted(request, key)
            entry = _Entry(new_execution_id(), workflow.version, digest)
            held = await self._hold(key, entry)
            if held is entry:
                return held.execution_id, workflow
        _check_same(held, digest)
        workflow = await self._workflows.get(request.tenant, request.workflow_id, held.version)
        return held.execution_id, workflow

    async def _claim_rerun(
        self, tenant: str, original: ExecutionState, from_node: str | None, key: str | None
    ) -> str:
        if key is None:
            await self._charge(tenant)
            return new_execution_id()
        # No workflow's id has a colon, so this is the key of no start.
        key = _bucket_key(tenant, f"rerun:{original.execution_id}", key)
        entry = _Entry(new_execution_id(), original.version, _digest({"from_node": from_node}))
        held = await self._held(key)
        if held is None:
            await self._charge(tenant, key)
            held = await self._hold(key, entry)
        _check_same(held, entry.body_sha256)
        return held.execution_id

    async def _held(self, key: str) -> _Entry | None:
        held = await self._keys.get(key)
        return None if held is None else msgspec.json.decode(held.value, type=_Entry)

    async def _hold(self, key: str, entry: _Entry) -> _Entry:
        """Make an entry for a key, or return the one that it has."""
        while await self._keys.create(key, msgspec.json.encode(entry)) is None:
            # None if it expired between the two, a day after its creation.
            if (held := await self._held(key)) is not None:
                return held
        return entry

    async def _admitted(self, request: RunRequest, key: str | None = None) -> StoredWorkflow:
        """Check a request and count it, both at once: it is no slower for being counted.

        So a request that is refused for its input counts as well.
        """
        workflow, charged = await asyncio.gather(
            self._checked_workflow(request),
            self._charge(request.tenant, key),
            return_exceptions=True,
        )
        if isinstance(workflow, BaseException):
            raise workflow
        if charged is not None:
            raise charged
        return workflow

    async def _charge(self, tenant: str, key: str | None = None) -> None:
        if self._rate_limit is not None:
            await self._rate_limit.consume(tenant, key)

    async def _checked_workflow(self, request: RunRequest) -> StoredWorkflow:
        workflow = await self._workflows.get(request.tenant, request.workflow_id)
        await self._inputs.check(request.tenant, workflow, request.field, request.input)
        return workflow


def _bucket_key(tenant: str, scope: str, key: str) -> str:
    # Hashed, because a key may hold what a subject token must not.
    digest = hashlib.sha256(f"{scope}\0{key}".encode()).hexdigest()
    return f"{check_id(tenant, 'tenant')}.{digest}"


def _check_same(held: _Entry, digest: str) -> None:
    if held.body_sha256 != digest:
        raise IdempotencyConflictError("this idempotency key was used with another body")


def _digest(body: Any) -> str:
    return hashlib.sha256(msgspec.json.encode(body, order="sorted")).hexdigest()
