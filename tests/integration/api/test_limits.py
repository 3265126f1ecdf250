"""Limits: each is refused by its own status, with a sentence that names it and what to do."""

from collections.abc import Iterator

import httpx
import pytest

from harness.api import ApiProcess, api_replicas
from harness.nats import NatsServer

FLOW = {"nodes": {"a": {"type": "transform", "with": {"value": 1}}}}


@pytest.fixture(scope="module")
def replicas(
    api_nats: NatsServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[ApiProcess]]:
    """Two replicas under which a tenant may start three runs a minute."""
    folder = tmp_path_factory.mktemp("limited")
    with api_replicas(
        2, api_nats.url, folder, prefix="limited", max_runs_per_minute="3"
    ) as processes:
        yield processes


async def test_runs_per_minute_are_counted_over_replicas_and_ways_to_start(
    replicas: list[ApiProcess], tenant: str
) -> None:
    """The fourth is a 429 wherever it is asked for, and however."""
    headers = {"x-organization-id": tenant}
    async with (
        httpx.AsyncClient(base_url=replicas[0].url, headers=headers) as one,
        httpx.AsyncClient(base_url=replicas[1].url, headers=headers) as other,
    ):
        await one.put("/api/v1/workflows/w", json=FLOW)
        runs, stream = "/api/v1/workflows/w/runs", "/api/v1/executions/stream"
        started = await one.post(runs)
        assert started.status_code == 202
        assert (await other.post(runs)).status_code == 202
        async with other.stream("POST", stream, json={"flow_id": "w"}) as streamed:
            assert streamed.status_code == 200
        for client in (one, other):
            for refused in (
                await client.post(runs),
                await client.post(stream, json={"flow_id": "w"}),
            ):
                assert refused.status_code == 429
                assert 0 < int(refused.headers["retry-after"]) <= 60
                assert "may start 3 runs a minute" in refused.json()["detail"]
        other_tenant = {"x-organization-id": f"{tenant}-2"}
        await one.put("/api/v1/workflows/w", json=FLOW, headers=other_tenant)
        assert (await other.post(runs, headers=other_tenant)).status_code == 202
