"""Start runs, once for each idempotency key, and never partially.

The order of the steps makes a repeated request safe after each of them. The key's record decides
the execution's id and version. The due index and the live index name the execution before it
exists. Its log is created, or exists already. Last, the job of a run that is still queued is
published; a second job is harmless. So a start is repeated while NATS is unavailable, with the same
id.
"""

import asyncio
import hashlib
import time
from typing import Any, Final, Literal, NamedTuple

import msgspec

from tailrace_shared.commands.job_publisher import JobPublisher
from tailrace_shared.commands.live_limits import StartLimits
from tailrace_shared.commands.run_input import InputCheck, InvalidInputError
from tailrace_shared.commands.start_rate_limit import StartRateLimit
from tailrace_shared.commands.time_limit import repeated, within_limit
from tailrace_shared.errors import (
    ExecutionNotFoundError,
    IdempotencyConflictError,
    IllegalCommandError,
    WorkflowNotFoundError,
)
from tailrace_shared.execution.events import Origin
from tailrace_shared.execution.items import split_item_id
from tailrace_shared.execution.state import ExecutionState
from tailrace_shared.execution.timestamps import format_timestamp
from tailrace_shared.ids import check_id, new_execution_id
from tailrace_shared.process.fair_threads import FairThreads
from tailrace_shared.stores.indexes.due_index import NOW
from tailrace_shared.stores.indexes.start_index import Start
from tailrace_shared.stores.stores import Stores
from tailrace_shared.stores.workflow_store import StoredWorkflow
from tailrace_shared.workflow.definition import MAX_TAGS
from tailrace_shared.workflow.problem_report import nearest
from tailrace_shared.workflow.sensitive_fields import sensitive_pointers
from tailrace_shared.workflow.validation import Problem

_NO_ORIGIN: Final = Origin()
_NOT_AGAIN: Final = "the execution cannot be run again like that"


class RunRequest(NamedTuple):
    """A client's or a schedule's request to start a run.

    Attributes:
        field: the name of the input in the request, for error pointers.
        body: the whole request body; a repeated request with the same key must have the same body.
        key: its idempotency key, or None.
        origin: the schedule that sends it, if one does.
    """

    tenant: str
    workflow_id: str
    field: str
    input: Any
    body: Any
    key: str | None
    origin: Origin = Origin()


class _Claim(msgspec.Struct):
    execution_id: str
    version: int
    body_sha256: str


class _Rerun(NamedTuple):
    """A request to run an execution again; see :meth:`RunStarter.rerun`."""

    tenant: str
    from_node: str | None
    failed: bool
    version: int | Literal["latest"] | None
    new_input: Any
    key: str | None

    @property
    def digest(self) -> str:
        """The digest of what a repeated request must have in common."""
        body = {"from_node": self.from_node}
        # Absent fields are left out: earlier releases knew only the first one.
        more = {
            "failed": self.failed or None,
            "version": self.version,
            "input": None if self.new_input is msgspec.UNSET else [self.new_input],
        }
        return _digest(body | {name: value for name, value in more.items() if value is not None})


class RunStarter:
    """Creates executions and publishes their first jobs.

    Args:
        stores: the log, the indexes, the definitions and the idempotency keys.
        threads: validate inputs that take long.
        rate_limit: the limit on runs that a tenant may start, or None for no limit. Neither child
            runs count nor scheduled ones, because no client would be there to retry them.
        limits: further limits; None for no limits.
    """

    def __init__(
        self,
        stores: Stores,
        jobs: JobPublisher,
        threads: FairThreads,
        rate_limit: StartRateLimit | None = None,
        limits: StartLimits | None = None,
    ) -> None:
        self._log = stores.log
        self._workflows = stores.workflows
        self._due = stores.due
        self._live = stores.live
        self._starts = stores.starts
        self._keys = stores.idempotency
        self._jobs = jobs
        self._inputs = InputCheck(threads)
        self._rate_limit = rate_limit
        self._limits = limits

    @within_limit
    async def start(self, request: RunRequest) -> ExecutionState:
        """Start a run, or return the one that an earlier copy of this request started.

        Raises:
            InvalidInputError: the workflow does not accept the input.
            WorkflowNotFoundError: the tenant has no such workflow.
            IdempotencyConflictError: the key belongs to another request.
            TooManyRunsError: the tenant has reached its limit of starts a minute.
            TooManyLiveRunsError: the tenant has too many runs that have not ended.
            UnavailableError: NATS did not answer; the request may be repeated.
        """
        check_id(request.workflow_id, "workflow")
        new_id = new_execution_id()
        return await repeated(lambda is_again: self._start(request, new_id, is_again))

    async def _start(self, request: RunRequest, new_id: str, is_again: bool) -> ExecutionState:
        execution_id, workflow, is_claimed = await self._claim(request, new_id)
        # A repeated request may create the run as well, so the defaults are those of its version.
        run_input = await self._inputs.check(request.tenant, workflow, request.field, request.input)
        is_repeated = is_again or is_claimed
        return await self._create(
            request.tenant,
            execution_id,
            workflow,
            run_input,
            request.origin,
            is_repeated=is_repeated,
        )

    async def start_child(
        self, tenant: str, execution_id: str, workflow_id: str, run_input: Any, origin: Origin
    ) -> ExecutionState:
        """Start the child run of a step, or return the one that was started earlier.

        Args:
            execution_id: the child's id, which its parent has recorded.

        Raises:
            InvalidInputError, WorkflowNotFoundError, InvalidIdError, TooManyLiveRunsError,
                UnavailableError: as :meth:`start`.
            TooManyDescendantsError: its root has too many descendants.
        """
        try:
            state = (await self._log.load(tenant, execution_id)).state
        except ExecutionNotFoundError:
            check_id(workflow_id, "workflow")
            workflow = await self._workflows.get(tenant, workflow_id)
            run_input = await self._inputs.check(tenant, workflow, "input", run_input)
            if self._limits is not None:
                await self._limits.live.check(tenant)
                if origin.root is not None:
                    await self._limits.descendants.count(tenant, origin.root, execution_id)
            return await self._create(tenant, execution_id, workflow, run_input, origin)
        await self._publish_first_job(tenant, state)
        return state

    @within_limit
    async def rerun(
        self,
        tenant: str,
        execution_id: str,
        from_node: str | None,
        key: str | None,
        *,
        failed: bool = False,
        version: int | Literal["latest"] | None = None,
        new_input: Any = msgspec.UNSET,
    ) -> ExecutionState:
        """Rerun an execution, or return the run that an earlier copy of this request started.

        Args:
            from_node: the node, or the item of a map, to begin with; None for the start.
            key: the request's idempotency key, or None.
            failed: whether to run the steps again that have not succeeded, and keep the others.
            version: the version to run; None for that of the execution.
            new_input: the input of the rerun; UNSET for that of the execution.

        Raises:
            ExecutionNotFoundError: the tenant has no such execution, or its log has expired.
            IllegalCommandError: it has not ended.
            InvalidInputError: it has no step ``from_node``, there is no version ``version``, or
                the version does not accept the input.
            WorkflowNotFoundError: its version of the workflow is not stored any more.
            IdempotencyConflictError: the key belongs to another request.
            TooManyRunsError: the tenant has reached its limit of starts a minute.
            TooManyLiveRunsError: the tenant has too many runs that have not ended.
            UnavailableError: NATS did not answer; the request may be repeated.
        """
        new_id = new_execution_id()
        request = _Rerun(tenant, from_node, failed, version, new_input, key)
        return await repeated(lambda is_again: self._rerun(request, execution_id, new_id, is_again))

    async def check_rerun(
        self, tenant: str, execution_id: str, *, version: int | Literal["latest"] | None
    ) -> None:
        """Check that an execution could be run again.

        Raises:
            ExecutionNotFoundError, IllegalCommandError, InvalidInputError, WorkflowNotFoundError,
                UnavailableError: as :meth:`rerun`.
        """
        request = _Rerun(tenant, None, False, version, msgspec.UNSET, None)
        original = await self._ended(tenant, execution_id)
        workflow = await self._version_of(request, original)
        await self._input_of(request, original, workflow)

    async def _rerun(
        self, request: "_Rerun", execution_id: str, new_id: str, is_again: bool
    ) -> ExecutionState:
        tenant = request.tenant
        original = await self._ended(tenant, execution_id)
        workflow = await self._version_of(request, original)
        if request.from_node is not None:
            _check_step(request.from_node, workflow, original)
        run_input = await self._input_of(request, original, workflow)
        claim, is_claimed = await self._claim_rerun(request, original, workflow.version, new_id)
        if claim.version != workflow.version:
            # A newer version was stored after an earlier copy of this request.
            workflow = await self._workflows.get(tenant, original.workflow_id, claim.version)
            run_input = await self._input_of(request, original, workflow)
        origin = Origin(
            rerun_of=execution_id,
            from_node=request.from_node,
            failed=request.failed,
            revised=workflow.version != original.version
            or _digest(run_input) != _digest(original.input),
            sensitive=tuple(original.sensitive),
            scheduled_at=original.scheduled_at,
            tags=tuple(original.tags),
        )
        return await self._create(
            tenant,
            claim.execution_id,
            workflow,
            run_input,
            origin,
            is_repeated=is_again or is_claimed,
        )

    async def _ended(self, tenant: str, execution_id: str) -> ExecutionState:
        # On a lagging replica the original has not ended yet.
        original = (await self._log.load_newest(tenant, check_id(execution_id, "execution"))).state
        if not original.is_terminal:
            raise IllegalCommandError(
                f"the execution is {original.status}; only one that has ended can be run again"
            )
        return original

    async def _version_of(self, request: "_Rerun", original: ExecutionState) -> StoredWorkflow:
        version = original.version if request.version is None else request.version
        newest = None if version == "latest" else version
        try:
            return await self._workflows.get(request.tenant, original.workflow_id, newest)
        except WorkflowNotFoundError as error:
            if request.version is None:
                raise
            raise InvalidInputError(_NOT_AGAIN, [Problem("/version", str(error))]) from None

    async def _input_of(
        self, request: "_Rerun", original: ExecutionState, workflow: StoredWorkflow
    ) -> Any:
        if request.new_input is msgspec.UNSET and workflow.version == original.version:
            return original.input
        given = original.input if request.new_input is msgspec.UNSET else request.new_input
        return await self._inputs.check(request.tenant, workflow, "input", given)

    async def check(self, request: RunRequest) -> None:
        """Check that a run could be started with this request.

        Raises:
            InvalidInputError, WorkflowNotFoundError, InvalidIdError: as :meth:`start`.
        """
        check_id(request.workflow_id, "workflow")
        await self._checked_workflow(request)

    async def sensitive_input(self, tenant: str, workflow_id: str, run_input: Any) -> list[str]:
        """Return JSON Pointers to the sensitive places in an input, for masking.

        Without the workflow, all of the input counts as sensitive.
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
        *,
        is_repeated: bool = False,
    ) -> ExecutionState:
        await asyncio.gather(
            self._due.put(tenant, execution_id, NOW),
            self._live.put(tenant, workflow.definition.id, execution_id),
            self._add_rows(tenant, execution_id, workflow, origin, is_repeated=is_repeated),
        )
        state = await self._log.create(tenant, execution_id, workflow, run_input, origin)
        if state is None:
            state = (await self._log.load(tenant, execution_id)).state
            if state.is_terminal:
                # It was entered into the live index again. A worker removes it, after it has
                # written the result, which may be missing yet.
                await self._jobs.advance(tenant, execution_id)
        await self._publish_first_job(tenant, state)
        return state

    async def _add_rows(
        self,
        tenant: str,
        execution_id: str,
        workflow: StoredWorkflow,
        origin: Origin,
        *,
        is_repeated: bool,
    ) -> None:
        """Add the rows of the list of runs, unless an earlier copy of the request did so."""
        if is_repeated and await self._log.last_commit(tenant, execution_id) is not None:
            return
        parent = None if origin.parent is None else origin.parent.execution_id
        created_at = format_timestamp(time.time())
        start = Start(execution_id, workflow.version, created_at, parent)
        workflow_id, tags = workflow.definition.id, workflow.definition.tags_with(origin.tags)
        await asyncio.gather(
            self._starts.add(tenant, workflow_id, start),
            *(self._starts.add_tag(tenant, workflow_id, start, tag) for tag in tags),
        )

    async def _publish_first_job(self, tenant: str, state: ExecutionState) -> None:
        if state.status == "queued":
            await self._jobs.advance(tenant, state.execution_id)

    async def _claim(self, request: RunRequest, new_id: str) -> tuple[str, StoredWorkflow, bool]:
        """Return the run's id, its workflow, and whether an earlier request has claimed it."""
        if request.key is None:
            return new_id, await self._validate_and_count(request, new_id), False
        key = _bucket_key(request.tenant, request.workflow_id, request.key)
        digest = _digest(request.body)
        stored = await self._claim_of(key)
        if stored is None:
            workflow = await self._validate_and_count(request, key)
            claim = _Claim(new_id, workflow.version, digest)
            stored = await self._store_claim(key, claim)
            if stored is claim:
                return stored.execution_id, workflow, False
        _check_same(stored, digest)
        workflow = await self._workflows.get(request.tenant, request.workflow_id, stored.version)
        return stored.execution_id, workflow, True

    async def _claim_rerun(
        self, request: "_Rerun", original: ExecutionState, version: int, new_id: str
    ) -> tuple[_Claim, bool]:
        """Return the claim of a rerun, and whether an earlier request has made it."""
        claim = _Claim(new_id, version, request.digest)
        if request.key is None:
            await self._count(request.tenant, new_id)
            return claim, False
        # No workflow id has a colon, so no start can have this key.
        key = _bucket_key(request.tenant, f"rerun:{original.execution_id}", request.key)
        stored = await self._claim_of(key)
        if stored is None:
            await self._count(request.tenant, key)
            stored = await self._store_claim(key, claim)
        _check_same(stored, claim.body_sha256)
        return stored, stored is not claim

    async def _claim_of(self, key: str) -> _Claim | None:
        stored = await self._keys.get(key)
        return None if stored is None else msgspec.json.decode(stored.value, type=_Claim)

    async def _store_claim(self, key: str, claim: _Claim) -> _Claim:
        """Store the claim of a key, or return the one that it has."""
        while await self._keys.create(key, msgspec.json.encode(claim)) is None:
            # None if it expired between the two calls, a day after its creation.
            if (stored := await self._claim_of(key)) is not None:
                return stored
        return claim

    async def _validate_and_count(self, request: RunRequest, key: str) -> StoredWorkflow:
        """Validate a request and count it concurrently, so that counting costs no latency.

        A request that is refused for its input counts as well.
        """
        workflow, counted = await asyncio.gather(
            self._checked_workflow(request),
            self._count(request.tenant, key),
            return_exceptions=True,
        )
        if isinstance(workflow, BaseException):
            raise workflow
        if counted is not None:
            raise counted
        return workflow

    async def _count(self, tenant: str, key: str) -> None:
        if self._limits is not None:
            await self._limits.live.check(tenant)
        if self._rate_limit is not None:
            await self._rate_limit.consume(tenant, key)

    async def _checked_workflow(self, request: RunRequest) -> StoredWorkflow:
        workflow = await self._workflows.get(request.tenant, request.workflow_id)
        await self._inputs.check(request.tenant, workflow, request.field, request.input)
        if (count := len(workflow.definition.tags_with(request.origin.tags))) > MAX_TAGS:
            detail = f"{count} tags with those of the workflow; the limit is {MAX_TAGS}"
            raise InvalidInputError("the run has too many tags", [Problem("/tags", detail)])
        return workflow


def _check_step(step_id: str, workflow: StoredWorkflow, original: ExecutionState) -> None:
    """Check that a rerun can begin with a step.

    Raises:
        InvalidInputError: it cannot.
    """
    node_id, index = split_item_id(step_id)
    nodes = workflow.definition.nodes
    if node_id not in nodes:
        detail = f"version {workflow.version} has no node {node_id!r}{nearest(node_id, nodes)}"
    elif index is not None and step_id not in original.steps:
        detail = f"the execution has no item {step_id!r}"
    else:
        return
    raise InvalidInputError(_NOT_AGAIN, [Problem("/from_node", detail)])


def _bucket_key(tenant: str, scope: str, key: str) -> str:
    # Hashed, because a key may contain characters that are invalid in a subject token.
    digest = hashlib.sha256(f"{scope}\0{key}".encode()).hexdigest()
    return f"{check_id(tenant, 'tenant')}.{digest}"


def _check_same(stored: _Claim, digest: str) -> None:
    if stored.body_sha256 != digest:
        raise IdempotencyConflictError("this idempotency key was used with another body")


def _digest(body: Any) -> str:
    return hashlib.sha256(msgspec.json.encode(body, order="sorted")).hexdigest()
