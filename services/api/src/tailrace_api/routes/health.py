"""Liveness, readiness and metrics."""

from typing import Literal

import msgspec
from nats.aio.client import Client
from starlette.requests import Request
from starlette.responses import Response

from tailrace_api.fanout.hub import Hub
from tailrace_api.metrics import CONTENT_TYPE, Metrics
from tailrace_api.web.json_response import json_response
from tailrace_api.web.operation import Answer, Operation
from tailrace_shared.settings import ApiSettings

Connection = Literal["connected", "disconnected"]


class Live(msgspec.Struct):
    """A process that answers."""

    status: Literal["ok"] = "ok"


class Ready(msgspec.Struct):
    """A process to which requests should be sent."""

    status: Literal["ready"] = "ready"


class Unready(msgspec.Struct):
    """A process to which no requests should be sent.

    Attributes:
        reasons: why not, each a sentence.
    """

    reasons: list[str]
    status: Literal["unready"] = "unready"


class StreamsHealth(msgspec.Struct):
    """Whether streams work.

    Attributes:
        nats: whether NATS is connected.
        redis: the same, for front ends that look for Redis.
    """

    status: Literal["healthy", "unhealthy"]
    nats: Connection
    redis: Connection


class HealthRoutes:
    """The routes that probes and Prometheus ask."""

    def __init__(self, settings: ApiSettings, client: Client, hub: Hub, metrics: Metrics) -> None:
        self._settings = settings
        self._client = client
        self._hub = hub
        self._metrics = metrics

    def routes(self) -> list[Operation]:
        """Return the routing table."""
        return [
            Operation(
                "GET",
                "/healthz",
                self.live,
                scope=None,
                summary="Tell that the process answers",
                answers={200: Answer(Live, "It does.")},
            ),
            Operation(
                "GET",
                "/readyz",
                self.ready,
                scope=None,
                summary="Tell whether requests should be sent here",
                answers={
                    200: Answer(Ready, "They should."),
                    503: Answer(Unready, "They should not."),
                },
            ),
            Operation(
                "GET",
                "/metrics",
                self.metrics,
                scope=None if self._settings.open_metrics else "operator",
                summary="Tell Prometheus about this process",
                answers={200: Answer(str, "Its metrics.", "text/plain")},
            ),
            Operation(
                "GET",
                "/api/v1/sse/health",
                self.streams,
                scope=None,
                summary="Tell whether streams work",
                answers={
                    200: Answer(StreamsHealth, "They do."),
                    503: Answer(StreamsHealth, "They do not: NATS is away."),
                },
            ),
        ]

    async def live(self, _request: Request) -> Response:
        """Tell that the process answers."""
        return json_response(Live())

    async def ready(self, _request: Request) -> Response:
        """Tell whether requests should be sent here."""
        wrong = []
        if not self._client.is_connected:
            wrong.append("NATS is not connected")
        if self._hub.is_draining:
            wrong.append("this process is stopping")
        if wrong:
            return json_response(Unready(wrong), 503)
        return json_response(Ready())

    async def metrics(self, _request: Request) -> Response:
        """Tell Prometheus about this process."""
        return Response(self._metrics.exposition(), headers={"content-type": CONTENT_TYPE})

    async def streams(self, _request: Request) -> Response:
        """Tell whether streams work; for front ends that look for Redis, NATS stands there, too."""
        connected = self._client.is_connected
        if not connected:
            return json_response(StreamsHealth("unhealthy", "disconnected", "disconnected"), 503)
        return json_response(StreamsHealth("healthy", "connected", "connected"))
