"""Liveness, readiness and metrics."""

from dataclasses import dataclass
from typing import Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tailrace_api.fanout.hub import Hub
from tailrace_api.metrics import Metrics
from tailrace_api.web.json_response import json_response
from tailrace_api.web.operation import Answer, Operation, operation
from tailrace_shared.nats.health import Health
from tailrace_shared.settings import ApiSettings

Connection = Literal["connected", "disconnected"]


class Live(msgspec.Struct):
    """A process that responds."""

    status: Literal["ok"] = "ok"


class Ready(msgspec.Struct):
    """A process that accepts requests."""

    status: Literal["ready"] = "ready"


class Unready(msgspec.Struct):
    """A process that must not get requests.

    Attributes:
        reasons: Why not, one sentence each.
    """

    reasons: list[str]
    status: Literal["unready"] = "unready"


class StreamsHealth(msgspec.Struct):
    """Whether streams are served.

    Attributes:
        nats: Whether NATS is connected and has answered lately.
        redis: Same as `nats`, for front ends that expect Redis.
    """

    status: Literal["healthy", "unhealthy"]
    nats: Connection
    redis: Connection


@dataclass(frozen=True, slots=True)
class HealthRoutes:
    """The routes for probes and Prometheus."""

    settings: ApiSettings
    health: Health
    hub: Hub
    metrics: Metrics

    @operation("GET", "/healthz", scope=None, answers={200: Answer(Live, "The process responds.")})
    async def live(self, _request: Request) -> Response:
        """Check liveness: the process responds."""
        return json_response(Live())

    @operation(
        "GET",
        "/readyz",
        scope=None,
        answers={
            200: Answer(Ready, "The process accepts requests."),
            503: Answer(Unready, "The process must not get requests."),
        },
    )
    async def ready(self, _request: Request) -> Response:
        """Check readiness: the process accepts requests."""
        reasons = [*self.health.failures()]
        if self.hub.is_draining:
            reasons.append("this process is stopping")
        if reasons:
            return json_response(Unready(reasons), 503)
        return json_response(Ready())

    @operation(
        "GET",
        "/api/v1/sse/health",
        scope=None,
        answers={
            200: Answer(StreamsHealth, "Streams are served."),
            503: Answer(StreamsHealth, "Streams are not served: NATS does not answer."),
        },
    )
    async def streams(self, _request: Request) -> Response:
        """Check whether streams are served."""
        if not self.health.pulse.is_alive:
            return json_response(StreamsHealth("unhealthy", "disconnected", "disconnected"), 503)
        return json_response(StreamsHealth("healthy", "connected", "connected"))

    def exposition(self) -> Operation:
        """Return the operation for Prometheus, whose scope depends on the settings."""
        return Operation(
            "GET",
            "/metrics",
            self._expose,
            scope=None if self.settings.open_metrics else "operator",
            summary="Return the Prometheus metrics of this process",
            answers={200: Answer(str, "The metrics.", "text/plain")},
        )

    def internal(self) -> list[Route]:
        """Return the routes of the internal port, which need no token."""
        return [
            Route("/healthz", self.live),
            Route("/readyz", self.ready),
            Route("/metrics", self._expose),
        ]

    async def _expose(self, request: Request) -> Response:
        body, media_type = self.metrics.exposition(request.headers.get("accept", ""))
        return Response(body, headers={"content-type": media_type})
