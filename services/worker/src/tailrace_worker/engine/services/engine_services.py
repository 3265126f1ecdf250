"""The services that the drives and actors of one worker share."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from tailrace_shared.caching.ttl_cache import TtlCache
from tailrace_shared.commands.commands import Commands
from tailrace_shared.commands.live_limits import StartLimits
from tailrace_shared.errors import WorkflowNotFoundError
from tailrace_shared.execution.state import ExecutionState
from tailrace_shared.nats.jetstream import JetStream
from tailrace_shared.process.tracing import Tracing
from tailrace_shared.stores.estimator_cache import EstimatorCache
from tailrace_shared.stores.stores import Stores
from tailrace_shared.stores.workflow_store import StoredWorkflow
from tailrace_shared.subjects import Subjects
from tailrace_shared.workflow.definition import encode_definition
from tailrace_worker.engine.counts import EngineCounts
from tailrace_worker.engine.decide.plan import Plan, types_of
from tailrace_worker.engine.run.output_budget import OutputBudget
from tailrace_worker.engine.run.runner import Runner
from tailrace_worker.engine.services.actor_job import OutgoingJob, actor_job
from tailrace_worker.engine.services.liveness import LivenessCheck
from tailrace_worker.engine.services.progress_estimates import Allowance, ProgressEstimates
from tailrace_worker.engine.services.run_statistics import Statistics
from tailrace_worker.engine.tasks.loop_slices import LoopSlices
from tailrace_worker.nodes.registry import NodeRegistry

# A node of a plan takes about three kilobytes.
_MAX_CACHED_NODES: Final = 50_000
# The expressions of larger definitions are compiled in a thread, not on first use.
_COMPILED_AT_ONCE_BYTES: Final = 4096
# A leader gives up within seconds after its disk became full.
_ABSENT_FOR_S: Final = 5.0
_ABSENT_PAUSE_S: Final = 0.5


@dataclass(slots=True)
class EngineServices:
    """Adapters and settings of the engine, constructed by the engine's composition root.

    Attributes:
        worker_id: names this worker in commits and liveness questions.
        commands: what changes executions: start, cancel, signal, publish a job.
        liveness: asks other workers whether they drive an execution or run an attempt.
        output_budget: limits the large outputs in the memory of this worker.
        tracing: makes spans; None if nothing is traced.
        now: returns the time of NATS in seconds since the epoch.
        is_replicated: whether NATS keeps several copies of the log, of which some may lag.
        actor_check_s: seconds without a commit after which the steps of actors are checked.
        max_crashes: lost workers after which a step fails.
        cancel_grace: seconds that an attempt has to end after a cancellation.
    """

    worker_id: str
    jetstream: JetStream
    subjects: Subjects
    stores: Stores
    commands: Commands
    liveness: LivenessCheck
    statistics: Statistics
    counts: EngineCounts
    tracing: Tracing | None
    estimators: EstimatorCache
    allowance: Allowance
    registry: NodeRegistry
    runner: Runner
    output_budget: OutputBudget
    now: Callable[[], float]
    is_replicated: bool
    actor_check_s: float
    limits: StartLimits
    max_crashes: int
    expression_budget: int
    cancel_grace: float
    loop: asyncio.AbstractEventLoop
    slices: LoopSlices
    _plans: TtlCache[tuple[str, str, int], Plan] = field(
        default_factory=lambda: TtlCache(_MAX_CACHED_NODES)
    )

    async def plan(self, tenant: str, workflow: str, version: int) -> Plan:
        """Return the plan of a workflow's version, from a cache where possible.

        Raises:
            WorkflowNotFoundError: the version is not stored any more.
        """
        key = (tenant, workflow, version)
        plan = self._plans.get(key)
        if plan is not None:
            return plan
        stored = await self._stored(tenant, workflow, version)
        published = await self.stores.node_types.all()
        if not published.keys() >= types_of(stored.definition):
            published = await self.stores.node_types.read()
        plan = self._plans.get(key)
        if plan is None:  # no other drive has cached it meanwhile
            plan = Plan(
                stored.definition,
                lambda node_type: self.registry.is_actor(node_type, published),
                self.expression_budget,
            )
            if len(encode_definition(stored.definition)) > _COMPILED_AT_ONCE_BYTES:
                await asyncio.to_thread(plan.compile_all)
            if not plan.is_provisional:
                self._plans.put(key, plan, len(plan.nodes))
        return plan

    async def _stored(self, tenant: str, workflow: str, version: int) -> StoredWorkflow:
        """Return a version of a workflow that an execution names.

        Raises:
            WorkflowNotFoundError: it is not stored any more. That must be true for a while, because
                a leader whose disk is full says for a moment that nothing is stored.
        """
        believed_at = self.loop.time() + _ABSENT_FOR_S
        while True:
            try:
                return await self.stores.workflows.get(tenant, workflow, version)
            except WorkflowNotFoundError:
                if self.loop.time() >= believed_at:
                    raise
            await asyncio.sleep(_ABSENT_PAUSE_S)

    async def progress_estimates(self, tenant: str, plan: Plan, version: int) -> ProgressEstimates:
        """Return what fills in the progress and remaining time of one execution."""
        estimator = await self.estimators.get(tenant, plan.definition, version, plan.graph)
        return ProgressEstimates(estimator, len(plan.graph.order), self.allowance)

    def actor_job(self, tenant: str, state: ExecutionState, step_id: str) -> OutgoingJob | None:
        """Return the message for a step that waits for an actor, or None for any other step."""
        return actor_job(self.subjects, tenant, state, step_id)

    async def publish(self, job: OutgoingJob) -> None:
        """Store a message for an actor.

        Raises:
            UnavailableError: NATS did not answer; the message may or may not be stored.
        """
        await self.jetstream.publish(job.subject, job.payload, job.headers)

    async def subscribe_live(
        self, tenant: str, execution: str, on_commit: Callable[[Msg], Awaitable[None]]
    ) -> Subscription:
        return await self.jetstream.client.subscribe(
            self.subjects.live(tenant, execution), cb=on_commit
        )
