"""Liveness, readiness and metrics."""

from nats.aio.client import Client
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tailrace_api.fanout.hub import Hub
from tailrace_api.json_response import json_response
from tailrace_api.metrics import CONTENT_TYPE, Metrics


class HealthRoutes:
    """The routes that probes and Prometheus ask."""

    def __init__(self, client: Client, hub: Hub, metrics: Metrics) -> None:
        self._client = client
        self._hub = hub
        self._metrics = metrics

    def routes(self) -> list[Route]:
        """Return the routing table."""
        return [
            Route("/healthz", self.live, methods=["GET"]),
            Route("/readyz", self.ready, methods=["GET"]),
            Route("/metrics", self.metrics, methods=["GET"]),
            Route("/api/v1/sse/health", self.streams, methods=["GET"]),
        ]

    async def live(self, _request: Request) -> Response:
        """Tell that the process answers."""
        return json_response({"status": "ok"})

    async def ready(self, _request: Request) -> Response:
        """Tell whether requests should be sent here."""
        wrong = []
        if not self._client.is_connected:
            wrong.append("NATS is not connected")
        if self._hub.is_draining:
            wrong.append("this process is stopping")
        if wrong:
            return json_response({"status": "unready", "reasons": wrong}, 503)
        return json_response({"status": "ready"})

    async def metrics(self, _request: Request) -> Response:
        """Tell Prometheus about this process."""
        return Response(self._metrics.exposition(), headers={"content-type": CONTENT_TYPE})

    async def streams(self, _request: Request) -> Response:
        """Tell whether streams work; for front ends that look for Redis, NATS stands there, too."""
        connected = self._client.is_connected
        word = "connected" if connected else "disconnected"
        body = {"status": "healthy" if connected else "unhealthy", "nats": word, "redis": word}
        return json_response(body, 200 if connected else 503)
