"""Starting runs: once for each idempotency key, and never half.

The order of the steps is what makes a repeated request safe after any of them: the key's entry
decides the execution's id and version, the log of that id is created or was, and a run that is
still queued is given to the workers (again: a second job for an execution finds nothing to do).
"""

import asyncio
import hashlib
from typing import Any, NamedTuple

import msgspec

from tailrace_shared.bucket import Bucket
from tailrace_shared.errors import IdempotencyConflictError
from tailrace_shared.execution.state import ExecutionState
from tailrace_shared.execution_log import ExecutionLog
from tailrace_shared.ids import check_id, new_execution_id
from tailrace_shared.jetstream import JetStream
from tailrace_shared.jobs import EXECUTIONS_QUEUE, advance_job
from tailrace_shared.run_index import RunIndex
from tailrace_shared.run_input import InputCheck
from tailrace_shared.subjects import Subjects
from tailrace_shared.topology import IDEMPOTENCY
from tailrace_shared.workflow_store import StoredWorkflow, WorkflowStore


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
    """Brings runs into being and gives them to the workers."""

    def __init__(self, jetstream: JetStream, subjects: Subjects, workflows: WorkflowStore) -> None:
        self._jetstream = jetstream
        self._subjects = subjects
        self._workflows = workflows
        self._log = ExecutionLog(jetstream, subjects)
        self._runs = RunIndex(jetstream, subjects)
        self._keys = Bucket(jetstream, subjects.stream(IDEMPOTENCY))
        self._inputs = InputCheck()

    async def start(self, request: RunRequest) -> ExecutionState:
        """Start a run, or return the one that this request has started before.

        Raises:
            InvalidInputError: the workflow does not take the input.
            WorkflowNotFoundError: the tenant has no such workflow.
            IdempotencyConflictError: the key belongs to another request.
            UnavailableError: NATS did not answer; the same request may be sent again.
        """
        check_id(request.workflow_id, "workflow")
        execution_id, workflow = await self._claim(request)
        state = await self._log.create(request.tenant, execution_id, workflow, request.input)
        if state is None:
            state = (await self._log.load(request.tenant, execution_id)).state
        if state.status == "queued":
            await asyncio.gather(
                self.advance(request.tenant, execution_id), self._runs.put(request.tenant, state)
            )
        return state

    async def check(self, request: RunRequest) -> None:
        """Check that a run could be started so.

        Raises:
            InvalidInputError, WorkflowNotFoundError, InvalidIdError: as :meth:`start`.
        """
        check_id(request.workflow_id, "workflow")
        await self._checked_workflow(request)

    async def advance(self, tenant: str, execution_id: str) -> None:
        """Give an execution to the workers.

        Raises:
            UnavailableError: NATS did not answer.
        """
        await self._jetstream.publish(
            self._subjects.job(EXECUTIONS_QUEUE), advance_job(tenant, execution_id)
        )

    async def _claim(self, request: RunRequest) -> tuple[str, StoredWorkflow]:
        if request.key is None:
            return new_execution_id(), await self._checked_workflow(request)
        key, digest = _bucket_key(request, request.key), _digest(request.body)
        held = await self._keys.get(key)
        if held is None:
            workflow = await self._checked_workflow(request)
            entry = _Entry(new_execution_id(), workflow.version, digest)
            if await self._keys.create(key, msgspec.json.encode(entry)) is not None:
                return entry.execution_id, workflow
            held = await self._keys.get(key)
        if held is None:
            # Expired between two reads, a day after its creation.
            return await self._claim(request)
        entry = msgspec.json.decode(held.value, type=_Entry)
        if entry.body_sha256 != digest:
            raise IdempotencyConflictError("this idempotency key was used with another body")
        workflow = await self._workflows.get(request.tenant, request.workflow_id, entry.version)
        return entry.execution_id, workflow

    async def _checked_workflow(self, request: RunRequest) -> StoredWorkflow:
        workflow = await self._workflows.get(request.tenant, request.workflow_id)
        await self._inputs.check(request.tenant, workflow, request.field, request.input)
        return workflow


def _bucket_key(request: RunRequest, key: str) -> str:
    # Hashed, because a key may hold what a subject token must not.
    digest = hashlib.sha256(f"{request.workflow_id}\0{key}".encode()).hexdigest()
    return f"{check_id(request.tenant, 'tenant')}.{digest}"


def _digest(body: Any) -> str:
    return hashlib.sha256(msgspec.json.encode(body, order="sorted")).hexdigest()
