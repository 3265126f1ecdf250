"""Statistics of a tenant and of one workflow."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from tailrace_api.auth.tenancy import tenant_of
from tailrace_api.dialects.statistics_document import (
    TenantStatistics,
    WorkflowDetails,
    tenant_statistics,
    workflow_details,
)
from tailrace_api.fanout.clients.client_count import ClientCount
from tailrace_api.web.json_response import json_response
from tailrace_api.web.operation import Answer, operation
from tailrace_shared.caching.single_flight_cache import SingleFlightCache
from tailrace_shared.ids import check_id
from tailrace_shared.settings import ApiSettings
from tailrace_shared.stores.indexes.live_index import LiveIndex
from tailrace_shared.stores.stats_store import StatsStore
from tailrace_shared.stores.workflow_store import WorkflowStore

_TTL_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class StatisticsRoutes:
    """The routes of statistics, cached for a second to make polling cheap."""

    settings: ApiSettings
    store: StatsStore
    live: LiveIndex
    workflows: WorkflowStore
    clients: ClientCount
    _tenants: SingleFlightCache[str, TenantStatistics] = field(
        default_factory=lambda: SingleFlightCache(_TTL_S), init=False
    )
    _details: SingleFlightCache[tuple[str, str], WorkflowDetails] = field(
        default_factory=lambda: SingleFlightCache(_TTL_S), init=False
    )

    @operation(
        "GET",
        "/api/realtime/stats",
        scope="executions:read",
        answers={200: Answer(TenantStatistics, "The statistics, at most a second old.")},
    )
    async def of_tenant(self, request: Request) -> Response:
        """Show throughput, latency and clients of a tenant, and statistics of each workflow."""
        tenant = tenant_of(request, self.settings)
        return json_response(await self._tenants.get(tenant, lambda: self._tenant(tenant)))

    @operation(
        "GET",
        "/api/v1/workflows/{workflow_id}/stats",
        scope="executions:read",
        answers={200: Answer(WorkflowDetails, "The statistics, at most a second old.")},
        problems=(404,),
    )
    async def of_workflow(self, request: Request) -> Response:
        """Show throughput and latency of a workflow and its nodes."""
        tenant = tenant_of(request, self.settings)
        workflow = check_id(request.path_params["workflow_id"], "workflow")
        details = await self._details.get(
            (tenant, workflow), lambda: self._workflow(tenant, workflow)
        )
        return json_response(details)

    async def _tenant(self, tenant: str) -> TenantStatistics:
        records, live, clients = await asyncio.gather(
            self.store.runs_of_all(tenant), self.live.of_tenant(tenant), self.clients.of(tenant)
        )
        active = Counter(each.workflow for each in live)
        # In a thread: a tenant can have hundreds of workflows, and streams must not wait.
        return await asyncio.to_thread(
            tenant_statistics, tenant, records, active, clients, time.time()
        )

    async def _workflow(self, tenant: str, workflow: str) -> WorkflowDetails:
        stored, runs, nodes, live = await asyncio.gather(
            self.workflows.get(tenant, workflow),
            self.store.runs(tenant, workflow),
            self.store.nodes(tenant, workflow),
            self.live.of_tenant(tenant, workflow),
        )
        return await asyncio.to_thread(
            workflow_details, stored.definition, runs, nodes, len(live), time.time()
        )
