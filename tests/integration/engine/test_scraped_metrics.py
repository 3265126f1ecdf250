"""The metrics of alerts and dashboards are those that the services export."""

import re
from pathlib import Path

import httpx

from harness.processes.api_process import ApiProcess
from harness.processes.installation import TENANT, Installation
from harness.processes.ports import free_port
from harness.sse.client import follow
from tools.observability import expressions, metrics_of

_TYPE = re.compile(r"^# TYPE (\S+) (\S+)$", re.MULTILINE)
_SUFFIXES = {"histogram": ["_bucket", "_count", "_sum"]}


async def test_every_metric_of_alerts_and_dashboards_is_exported(
    site: Installation, tmp_path: Path
):
    """Names and labels, by a real scrape after a run that was streamed and retried."""
    port = free_port()
    site.worker(metrics_port=str(port))
    environment = {
        name.removeprefix("TAILRACE_").lower(): value
        for name, value in site.environment.items()
        if name != "NATS_URL"
    }
    with ApiProcess(site.environment["NATS_URL"], tmp_path, **environment) as api:
        retry = {"max_attempts": 2, "initial": "1ms"}
        failing = {"type": "fail", "with": {"message": "no"}, "retry": retry}
        execution = await site.begin({"a": failing})
        await site.finished(execution)
        async with follow(api.port, execution, "no-id", tenant=TENANT) as stream:
            await stream.all()
        async with httpx.AsyncClient(timeout=60) as http:
            await http.get(f"{api.url}/api/v1/workflows")
            found = ""
            while "tailrace_jobs_queued{" not in found:
                worker = await http.get(f"http://127.0.0.1:{port}/metrics")
                found = worker.text + (await http.get(f"{api.url}/metrics")).text
    exported = {
        f"{name}{suffix}"
        for name, kind in _TYPE.findall(found)
        for suffix in _SUFFIXES.get(kind, [""])
    }
    wanted = {name for expression in expressions() for name in metrics_of(expression)}
    assert wanted - exported == set()
    for expression in expressions():
        for name in metrics_of(expression):
            samples = re.findall(rf"^{name}{{.*$", found, re.MULTILINE)
            # What has not happened, for example a refusal, has no samples.
            for label in _labels(expression, name) if samples else ():
                assert any(f'{label}="' in sample for sample in samples), (name, label)


def _labels(expression: str, metric: str) -> set[str]:
    """Return the labels that an expression selects a metric by."""
    labels: set[str] = set()
    for selector in re.findall(rf"{metric}{{([^}}]*)}}", expression):
        labels |= set(re.findall(r"(\w+)(?:=|!=|=~)\"", selector))
    return labels
