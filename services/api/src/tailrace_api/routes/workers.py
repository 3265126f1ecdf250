"""The route that tells autoscalers how much work there is for workers."""

from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tailrace_api.web.json_response import json_response
from tailrace_api.web.operation import Answer, operation
from tailrace_shared.caching.single_flight_cache import SingleFlightCache
from tailrace_shared.installation.demand import Demand, DemandReader

DEMAND_PATH: Final = "/api/v1/workers/demand"

_TTL_S: Final = 5.0


class QueueDemandDocument(msgspec.Struct):
    """The demand of one queue.

    Attributes:
        demand: The sum of the following two.
        queued: Jobs that no worker has.
        in_flight: Jobs that a worker has.
        oldest_seconds: How long the oldest of the queued jobs has waited.
    """

    demand: int
    queued: int
    in_flight: int
    oldest_seconds: float


class DemandDocument(msgspec.Struct):
    """The demand for workers.

    Attributes:
        demand: The sum of the following three.
        queued: Jobs that no worker has, and executions whose tenant has its share of the workers.
        in_flight: Jobs that a worker has.
        due_soon: Timers that fire within 30 seconds.
        queues: The queues by name. Actor nodes have queues of their own.
    """

    demand: int
    queued: int
    in_flight: int
    due_soon: int
    queues: dict[str, QueueDemandDocument]


class WorkerRoutes:
    """The route under ``/api/v1/workers``."""

    def __init__(self, demand: DemandReader) -> None:
        self._demand = demand
        # Autoscalers of several pools ask at the same time.
        self._recent: SingleFlightCache[None, Demand] = SingleFlightCache(_TTL_S)

    @operation(
        "GET",
        DEMAND_PATH,
        scope="operator",
        answers={200: Answer(DemandDocument, "The demand, at most five seconds old.")},
    )
    async def demand(self, _request: Request) -> Response:
        """Show how much work there is for workers, for autoscalers."""
        found = await self._recent.get(None, self._demand.read)
        queues = {
            name: QueueDemandDocument(
                queue.queued + queue.in_flight,
                queue.queued,
                queue.in_flight,
                round(queue.oldest_seconds, 3),
            )
            for name, queue in found.queues.items()
        }
        return json_response(
            DemandDocument(found.total, found.queued, found.in_flight, found.due_soon, queues)
        )

    def internal(self) -> list[Route]:
        """Return the routes of the internal port, which need no token."""
        return [Route(DEMAND_PATH, self.demand)]
