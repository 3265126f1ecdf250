"""Traces, as an OTLP/HTTP receiver gets them from an API replica and a worker."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from harness.processes.api_process import ApiProcess
from harness.processes.installation import Installation
from harness.processes.ports import free_port
from harness.sse.client import follow

SECRET = "s3cr3t-p4ssw0rd"
EXEMPLIFIED = ("queue_wait", "attempt", "commit")
OPEN_METRICS = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5"
NODES = """
import time

from opentelemetry import trace

from tailrace_worker.nodes import node


@node("test.traced")
def traced(password: str) -> dict:
    current = trace.get_current_span()
    current.set_attribute("leaked", password)
    return {"trace": f"{current.get_span_context().trace_id:032x}"}
"""


class Receiver:
    """Receives spans over HTTP.

    Attributes:
        spans: the spans of all services.
        raw: all bytes that were received.
    """

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.raw = b""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                request = ExportTraceServiceRequest.FromString(body)
                receiver.raw += body
                for resource in request.resource_spans:
                    for scope in resource.scope_spans:
                        receiver.spans.extend(scope.spans)
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_arguments: Any) -> None:
                """Do not log."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def named(self, name: str) -> list[Span]:
        """Return the spans with a name."""
        return [span for span in self.spans if span.name == name]

    async def until(self, condition: Callable[[], Any]) -> None:
        """Wait for spans."""
        async with asyncio.timeout(60):
            while not condition():  # noqa: ASYNC110 - the receiver is another thread
                await asyncio.sleep(0.05)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    opened = Receiver()
    threading.Thread(target=opened.server.serve_forever, daemon=True).start()
    yield opened
    opened.server.shutdown()


async def test_a_drive_is_a_trace_that_links_to_its_cause(
    site: Installation, receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """An API request, two drives, their attempts, and a stream; no secret in any of it."""
    (tmp_path / "traced_nodes.py").write_text(NODES)
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "password").write_text(SECRET)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")
    metrics_port = free_port()
    worker = site.worker(
        metrics_port=str(metrics_port),
        nodes="traced_nodes",
        secrets_dir=str(secrets),
        secrets_tenants="*",
        log_level="info",
    )
    settings = {
        name.removeprefix("TAILRACE_").lower(): value
        for name, value in site.environment.items()
        if name != "NATS_URL"
    }
    nodes = {
        "a": {"type": "test.traced", "with": {"password": "${secrets.password}"}},
        "wait": {"type": "delay", "needs": ["a"], "with": {"duration": "3s"}},
        "b": {"type": "simulate", "needs": ["wait"], "with": {"duration": "1ms"}},
        "c": {"type": "fail", "needs": ["b"], "with": {"message": "no"}},
    }
    with ApiProcess(site.environment["NATS_URL"], tmp_path, **settings) as api:
        async with httpx.AsyncClient(base_url=api.url, timeout=60) as http:
            stored = await http.put("/api/v1/workflows/traced", json={"nodes": nodes})
            assert stored.status_code < 300, stored.text
            parent = f"00-{'a' * 32}-{'b' * 16}-01"
            started = await http.post(
                "/api/v1/workflows/traced/runs", json={}, headers={"traceparent": parent}
            )
            execution = started.json()["execution_id"]
        async with follow(api.port, execution) as stream:
            await stream.all()
        await receiver.until(lambda: receiver.named("stream close"))
        await receiver.until(lambda: len(receiver.named("drive")) >= 2)
        of_api = await _exemplars(api.port)
        of_worker = await _exemplars(metrics_port)
        traced = set().union(
            *(of_worker[f"tailrace_worker_{name}_seconds"] for name in EXEMPLIFIED)
        )
        await receiver.until(
            lambda: traced <= {span.trace_id.hex() for span in receiver.named("drive")}
        )

    [request] = receiver.named("POST /api/v1/workflows/{workflow_id}/runs")
    assert request.trace_id.hex() == "a" * 32
    assert request.parent_span_id.hex() == "b" * 16
    drives = {span.span_id: span for span in receiver.named("drive")}
    [attempt], [later] = receiver.named("attempt test.traced"), receiver.named("attempt simulate")
    first, second = drives[attempt.parent_span_id], drives[later.parent_span_id]
    assert not first.parent_span_id
    assert (attempt.trace_id, later.trace_id) == (first.trace_id, second.trace_id)
    assert len({request.trace_id, first.trace_id, second.trace_id}) == 3
    assert [link.span_id for link in first.links] == [request.span_id]
    # The timer was published by the first drive, or by one that read the log again after it.
    [timer] = second.links
    assert timer.span_id in drives.keys() - {second.span_id}
    state = await site.state(execution)
    assert state.steps["a"].output == {"trace": first.trace_id.hex()}

    [opened], [closed] = receiver.named("stream open"), receiver.named("stream close")
    assert [link.span_id for link in closed.links] == [opened.span_id]
    assert closed.end_time_unix_nano - closed.start_time_unix_nano < 1e9

    [leaked] = [each for each in attempt.attributes if each.key == "leaked"]
    assert SECRET not in leaked.value.string_value
    assert SECRET.encode() not in receiver.raw
    assert SECRET not in worker.log_text

    assert of_api["tailrace_api_request_seconds"] >= {request.trace_id.hex()}
    assert all(of_worker[f"tailrace_worker_{name}_seconds"] for name in EXEMPLIFIED)


async def _exemplars(port: int) -> dict[str, set[str]]:
    """Scrape as Prometheus does; return the traces of the exemplars by histogram."""
    async with httpx.AsyncClient(timeout=60, headers={"accept": OPEN_METRICS}) as http:
        answer = await http.get(f"http://127.0.0.1:{port}/metrics")
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    return {
        family.name: {
            sample.exemplar.labels["trace_id"] for sample in family.samples if sample.exemplar
        }
        for family in text_string_to_metric_families(answer.text)
    }
