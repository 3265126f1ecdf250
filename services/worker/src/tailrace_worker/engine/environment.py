"""What all drives of one worker share."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from tailrace_shared.execution_log import ExecutionLog
from tailrace_shared.jetstream import JetStream
from tailrace_shared.run_index import RunIndex
from tailrace_shared.subjects import Subjects
from tailrace_shared.workflow_store import WorkflowStore
from tailrace_worker.engine.plan import Plan
from tailrace_worker.engine.runner import Runner

# A node of a plan takes some three kilobytes.
_CACHED_NODES: Final = 50_000


@dataclass(slots=True)
class Environment:
    """Adapters and settings of the engine, constructed by the composition root."""

    worker_id: str
    jetstream: JetStream
    subjects: Subjects
    log: ExecutionLog
    index: RunIndex
    workflows: WorkflowStore
    runner: Runner
    max_crashes: int
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
        stored = await self.workflows.get(tenant, workflow, version)
        if key in self._plans:  # another drive has made it meanwhile
            return self._plans[key]
        plan = self._plans[key] = Plan(stored.definition)
        self._cached_nodes += len(plan.nodes)
        while self._cached_nodes > _CACHED_NODES and len(self._plans) > 1:
            _key, oldest = self._plans.popitem(last=False)
            self._cached_nodes -= len(oldest.nodes)
        return plan

    async def subscribe_live(
        self, tenant: str, execution: str, heard: Callable[[Msg], Awaitable[None]]
    ) -> Subscription:
        """Hear of every commit to an execution."""
        return await self.jetstream.client.subscribe(
            self.subjects.live(tenant, execution), cb=heard
        )
