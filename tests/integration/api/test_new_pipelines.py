"""Pipelines that are created while clients wait for them."""

import httpx
import pytest
from nats.aio.client import Client

from harness.generators.hand_written_log import HandWrittenLog
from harness.processes.api_process import ApiProcess
from harness.sse.client import SseClient, SseEvent

FLOW = {"nodes": {"a": {"type": "transform", "with": {"value": 1}}}}


def _kind_and_detail(event: SseEvent) -> tuple[str, object]:
    shown = event.json()
    shown = shown.get("data", shown)
    return shown["type"], shown.get("updates", shown.get("pipelineId"))


@pytest.mark.parametrize(
    "path",
    [
        "/ui-api/pipeline/status/stream?pipelineIds=young",
        "/api/v1/sse/stream?topics=pipeline:young",
    ],
)
async def test_a_new_pipeline_is_visible_to_new_streams(
    http: httpx.AsyncClient, api: ApiProcess, nats_client: Client, tenant: str, path: str
) -> None:
    """A stream that was opened before learns of it with its first run."""
    headers = {"x-organization-id": tenant}
    async with SseClient(api.port, path, headers=headers) as early:
        assert [*map(_kind_and_detail, await early.take(2))] == [
            ("batch_update", []),
            ("error", "young"),
        ]
        assert (await http.put("/api/v1/workflows/young", json=FLOW)).is_success
        async with SseClient(api.port, path, headers=headers) as late:
            (batch,) = await late.take(1)
            idle = [{"pipelineId": "young", "status": "idle"}]
            assert _kind_and_detail(batch) == ("batch_update", idle)
            await HandWrittenLog(nats_client, tenant).begin("young")
            for stream in (early, late):
                update = (await stream.take(1))[0]
                while _kind_and_detail(update)[0] == "heartbeat":
                    update = (await stream.take(1))[0]
                assert _kind_and_detail(update) == ("status_update", "young")
