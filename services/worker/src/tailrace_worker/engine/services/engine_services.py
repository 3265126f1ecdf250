"""What all drives of one worker share."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from tailrace_shared.commands.commands import Commands
from tailrace_shared.execution.state import ExecutionState
from tailrace_shared.nats.jetstream import JetStream
from tailrace_shared.stores.estimators import Estimators
from tailrace_shared.stores.stores import Stores
from tailrace_shared.subjects import Subjects
from tailrace_worker.engine.decide.plan import Plan
from tailrace_worker.engine.run.runner import Runner
from tailrace_worker.engine.services.actor_job import actor_job
from tailrace_worker.engine.services.progress_estimates import Allowance, ProgressEstimates
from tailrace_worker.engine.services.run_statistics import Statistics
from tailrace_worker.nodes.registry import NodeRegistry

# A node of a plan takes some three kilobytes.
_CACHED_NODES: Final = 50_000


@dataclass(slots=True)
class EngineServices:
    """Adapters and settings of the engine, constructed by the composition root."""

    worker_id: str
    jetstream: JetStream
    subjects: Subjects
    stores: Stores
    commands: Commands
    statistics: Statistics
    estimators: Estimators
    allowance: Allowance
    registry: NodeRegistry
    runner: Runner
    now: Callable[[], float]
    max_crashes: int
    cancel_grace: float
    loop: asyncio.AbstractEventLoop
    _plans: OrderedDict[tuple[str, str, int], Plan] = field(default_factory=OrderedDict)
    _cached_nodes: int = 0

    async def plan(self, tenant: str, workflow: str, version: int) -> Plan:
        """Return the plan of a workflow's version.

        Raises:
            WorkflowNotFoundError: it is not stored any more.
        """
        key = (tenant, workflow, version)
        if key in self._plans:
            self._plans.move_to_end(key)
            return self._plans[key]
        stored = await self.stores.workflows.get(tenant, workflow, version)
        published = await self.stores.node_types.all()
        if key in self._plans:  # another drive has made it meanwhile
            return self._plans[key]
        plan = self._plans[key] = Plan(
            stored.definition, lambda node_type: self.registry.is_actor(node_type, published)
        )
        self._cached_nodes += len(plan.nodes)
        while self._cached_nodes > _CACHED_NODES and len(self._plans) > 1:
            _key, oldest = self._plans.popitem(last=False)
            self._cached_nodes -= len(oldest.nodes)
        return plan

    async def outlook(self, tenant: str, plan: Plan, version: int) -> ProgressEstimates:
        """Return what tells how far an execution of a plan is and how long it still takes."""
        estimator = await self.estimators.of(tenant, plan.definition, version, plan.graph)
        return ProgressEstimates(estimator, len(plan.nodes), self.allowance)

    async def send_to_actor(self, tenant: str, state: ExecutionState, step_id: str) -> None:
        """Have an actor attend to a step that waits for one."""
        job = actor_job(self.subjects, tenant, state, step_id)
        if job is not None:
            await self.jetstream.publish(job.subject, job.payload, job.headers)

    async def subscribe_live(
        self, tenant: str, execution: str, heard: Callable[[Msg], Awaitable[None]]
    ) -> Subscription:
        """Hear of every commit to an execution."""
        return await self.jetstream.client.subscribe(
            self.subjects.live(tenant, execution), cb=heard
        )
