"""Statistics: of a tenant, as a performance page draws them, and of one workflow."""

import asyncio
import time
from collections import Counter
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from tailrace_api.auth.tenancy import tenant_of
from tailrace_api.documents.single_flight_cache import SingleFlightCache
from tailrace_api.documents.statistics import (
    TenantStatistics,
    WorkflowDetails,
    tenant_statistics,
    workflow_details,
)
from tailrace_api.fanout.clients.client_count import ClientCount
from tailrace_api.web.json_response import json_response
from tailrace_api.web.operation import Answer, Operation
from tailrace_shared.ids import check_id
from tailrace_shared.settings import ApiSettings
from tailrace_shared.stores.indexes.live_index import LiveIndex
from tailrace_shared.stores.stats_store import StatsStore
from tailrace_shared.stores.workflow_store import WorkflowStore

_MOMENT: Final = 1.0


class StatisticsRoutes:
    """The routes of statistics. However many look, each is put together once a second."""

    def __init__(
        self,
        settings: ApiSettings,
        store: StatsStore,
        live: LiveIndex,
        workflows: WorkflowStore,
        clients: ClientCount,
    ) -> None:
        self._settings = settings
        self._store = store
        self._live = live
        self._workflows = workflows
        self._clients = clients
        self._of_tenants: SingleFlightCache[str, TenantStatistics] = SingleFlightCache(_MOMENT)
        self._of_workflows: SingleFlightCache[tuple[str, str], WorkflowDetails] = SingleFlightCache(
            _MOMENT
        )

    def routes(self) -> list[Operation]:
        """Return the routing table."""
        return [
            Operation(
                "GET",
                "/api/realtime/stats",
                self.of_tenant,
                scope="executions:read",
                summary="Show throughput, latency and clients, of all workflows and of each",
                answers={200: Answer(TenantStatistics, "The numbers, a second old at the most.")},
            ),
            Operation(
                "GET",
                "/api/v1/workflows/{workflow_id}/stats",
                self.of_workflow,
                scope="executions:read",
                summary="Show throughput and latency of a workflow and of its nodes",
                answers={200: Answer(WorkflowDetails, "The numbers, a second old at the most.")},
                problems=(404,),
            ),
        ]

    async def of_tenant(self, request: Request) -> Response:
        """Return the numbers of a tenant."""
        tenant = tenant_of(request, self._settings)
        return json_response(await self._of_tenants.get(tenant, lambda: self._tenant(tenant)))

    async def of_workflow(self, request: Request) -> Response:
        """Return the numbers of a workflow."""
        tenant = tenant_of(request, self._settings)
        workflow = check_id(request.path_params["workflow_id"], "workflow")
        details = await self._of_workflows.get(
            (tenant, workflow), lambda: self._workflow(tenant, workflow)
        )
        return json_response(details)

    async def _tenant(self, tenant: str) -> TenantStatistics:
        records, live, clients = await asyncio.gather(
            self._store.runs_of_all(tenant), self._live.of_tenant(tenant), self._clients.of(tenant)
        )
        active = Counter(each.workflow for each in live)
        # In a thread: a tenant may have hundreds of workflows, and streams must not wait.
        return await asyncio.to_thread(
            tenant_statistics, tenant, records, active, clients, time.time()
        )

    async def _workflow(self, tenant: str, workflow: str) -> WorkflowDetails:
        stored, runs, nodes, live = await asyncio.gather(
            self._workflows.get(tenant, workflow),
            self._store.runs(tenant, workflow),
            self._store.nodes(tenant, workflow),
            self._live.of_tenant(tenant, workflow),
        )
        return await asyncio.to_thread(
            workflow_details, stored.definition, runs, nodes, len(live), time.time()
        )
