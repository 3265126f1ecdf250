"""The Prometheus metrics of an API process."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
from nats.aio.client import Client
from prometheus_client.parser import text_string_to_metric_families

from harness.generators.hand_written_log import HandWrittenLog
from harness.nats.server import NatsServer
from harness.processes.api_process import ApiProcess
from harness.sse.client import SseClient, follow
from tailrace_shared.nats.components import running_version


async def samples(http: httpx.AsyncClient) -> dict[str, float]:
    """Scrape; return the values by name and labels."""
    answer = await http.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return {
        "/".join([sample.name, *sample.labels.values()]): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


async def test_requests_are_counted_by_status(http: httpx.AsyncClient) -> None:
    """Refused requests included."""
    before = await samples(http)
    for path in ("/api/v1/workflows", "/api/v1/workflows", "/nothing"):
        await http.get(path)
    after = await samples(http)
    name = "tailrace_api_requests_total"
    assert after[f"{name}/404"] == before.get(f"{name}/404", 0) + 1
    assert after[f"{name}/200"] >= before.get(f"{name}/200", 0) + 2


async def test_durations_are_counted_by_operation(http: httpx.AsyncClient) -> None:
    """They are labelled by the declared path, so no label has a value that a client chooses."""
    name = "tailrace_api_request_seconds_count/4xx/GET /api/v1/workflows/{workflow_id}"
    before = await samples(http)
    assert (await http.get("/api/v1/workflows/chosen-by-a-client")).status_code == 404
    after = await samples(http)
    assert after[name] == before.get(name, 0) + 1
    assert not [label for label in after if "chosen-by-a-client" in label]


async def test_the_state_of_the_installation_is_exported(http: httpx.AsyncClient) -> None:
    """Replicas, space, the topology and the version."""
    async with asyncio.timeout(60):
        while "tailrace_topology_version" not in (found := await samples(http)):
            pass
    for name in ("replicas_current", "replicas_wanted"):
        assert found[f"tailrace_nats_{name}/EVENTS"] >= 1
    assert 0 <= found["tailrace_nats_store_ratio/EVENTS"] < 1
    assert found["tailrace_dead_letters"] >= 0
    assert found[f"tailrace_build_info/api/{running_version()}"] == 1


async def _refused(api: ApiProcess, request: bytes) -> bytes:
    """Send raw bytes; return the status line of the response."""
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    writer.write(request)
    line = await asyncio.wait_for(reader.readline(), 60)
    writer.close()
    return line


async def test_requests_that_the_protocol_refuses_are_counted_and_logged(
    idle_nats: NatsServer, tmp_path: Path
) -> None:
    """Too large, too slow, or not HTTP. The log does not repeat what they sent."""
    with ApiProcess(idle_nats.url, tmp_path, receive_timeout="1s") as api:
        begin = b"POST /api/v1/triggers/known HTTP/1.1\r\nhost: 127.0.0.1\r\n"
        for status, request in {
            414: b"GET /?access_token=secret" + b"x" * 20_000,
            431: b"GET /?access_token=secret HTTP/1.1\r\na: secret" + b"x" * 80_000,
            400: b"secret\r\n\r\n",
            408: begin + b"content-length: 9\r\n\r\nsecret",
        }.items():
            assert b" %d " % status in await _refused(api, request)
        assert b" 408 " in await _refused(api, begin + b"authorization: secret")
        async with httpx.AsyncClient(base_url=api.url, timeout=60) as http:
            name = "tailrace_api_requests_total"
            # The scrape itself is counted once it has finished.
            while (found := await samples(http)).get(f"{name}/408") != 2:
                pass
            assert [found[f"{name}/{status}"] for status in (414, 431, 400)] == [1, 1, 1]
        lines = [json.loads(line) for line in api.log_text.splitlines() if line.startswith("{")]
        (first, *_) = [line for line in lines if line["event"] == "request refused"]
        assert (first["status"], first["client"]) == (414, "127.0.0.1")
        served = await _served(api, "/api/v1/triggers/known")
        assert served["status"] == 408
        assert "secret" not in api.log_text


async def _served(api: ApiProcess, path: str) -> dict[str, Any]:
    """Return the log line of a request, which may be written after it is counted."""
    while True:
        lines = [json.loads(line) for line in api.log_text.splitlines() if line.startswith("{")]
        found: list[dict[str, Any]] = [line for line in lines if line.get("path") == path]
        if found:
            (line,) = found
            return line
        await asyncio.sleep(0.01)


async def test_open_streams_are_counted(
    http: httpx.AsyncClient, api: ApiProcess, nats_client: Client, tenant: str
) -> None:
    """While they are open."""
    log = HandWrittenLog(nats_client, tenant)
    await log.begin()
    while (await samples(http))["tailrace_api_streams"]:
        pass  # the API has not yet noticed that streams of other tests are closed
    path = f"/api/v1/sse/executions/{log.execution}/stream?organization_id={tenant}"
    async with SseClient(api.port, path) as stream:
        await stream.take(1)
        assert (await samples(http))["tailrace_api_streams"] == 1
    async with asyncio.timeout(60):
        while (await samples(http))["tailrace_api_streams"]:
            pass


async def test_stream_activity_is_counted(
    http: httpx.AsyncClient, api: ApiProcess, nats_client: Client, tenant: str
) -> None:
    """Opens, closes by reason, events, writes, history and latency."""
    log = HandWrittenLog(nats_client, tenant)
    await log.begin()
    before = await samples(http)
    async with follow(api.port, log.execution, tenant=tenant) as stream:
        await stream.take(3)
        await log.step("a")
        await stream.take(2)
        await log.complete()
        await stream.all()
    position = stream.parser.last_event_id.replace("-", "0-", 1)
    async with follow(api.port, log.execution, position, tenant=tenant) as stream:
        await stream.all()
    after = await samples(http)

    def grown(name: str) -> float:
        return after.get(f"tailrace_api_{name}", 0) - before.get(f"tailrace_api_{name}", 0)

    # A client may see the end of a stream before it is counted.
    while grown("streams_closed_total/finished") < 2:
        after = await samples(http)
    assert grown("streams_opened_total") == grown("streams_closed_total/finished") == 2
    assert grown("stream_resets_total") == 1
    assert grown("stream_resumes_total/reset") == 1
    assert after["tailrace_api_stream_gap_events_total"] == 0
    for is_resumed in ("true", "false"):
        assert grown(f"stream_first_byte_seconds_count/{is_resumed}") == 1
    assert grown("stream_events_total") == 5 + 5
    assert 4 <= grown("stream_writes_total") <= 5
    assert grown("stream_bytes_total") > 1000
    assert grown("replay_events_count") == 2
    assert grown("replay_events_sum") == 2 + 5
    # The first may have been stored while the topic was opened, and so was not live.
    assert 1 <= grown("hub_lag_seconds_count") <= 2
    assert grown("replay_reads_total") >= 2
    assert after["tailrace_api_loop_stall_seconds_count"] > 0
    for name in ("streams_slow", "stream_backlog_bytes", "replay_waiting", "subscriptions"):
        assert after[f"tailrace_api_{name}"] >= 0


async def test_process_metrics_are_exported(http: httpx.AsyncClient) -> None:
    """Memory, CPU and files."""
    found = await samples(http)
    assert found["process_resident_memory_bytes"] > 1_000_000
    assert found["process_open_fds"] > 3
