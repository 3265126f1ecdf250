"""A value goes through a whole system and comes back equal, or is refused with its place."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from harness.generators.json_values import WRITABLE, is_equal, write, wrong_places
from harness.nats.server import NatsServer
from harness.processes.api_process import ApiProcess
from harness.processes.service import Service

CHILD = {"nodes": {"a": {"type": "transform", "with": {"value": "${input.v}"}}}}
FLOW = {
    "nodes": {
        "echo": {"type": "values.echo", "with": {"value": "${input.v}"}},
        "child": {"type": "workflow", "with": {"id": "child", "input": {"v": "${input.v}"}}},
        "ask": {"type": "await"},
        "hear": {"type": "await", "with": {"triggers": ["heard"], "match": "event.k == input.k"}},
    },
    "output": {
        "echo": "${nodes.echo.output}",
        "child": "${nodes.child.output.a}",
        "ask": "${nodes.ask.output.data.v}",
        "hear": "${nodes.hear.output.event.v}",
    },
}
# The levels and the characters of keys that the field around a value uses itself.
LEVELS, CHARACTERS = 98, 2042


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of an API with a worker."""
    folder = tmp_path_factory.mktemp("values")
    environment = {"PYTHONPATH": str(Path(__file__).parent), "TAILRACE_NODES": "value_functions"}
    with (
        NatsServer(folder / "nats") as nats,
        ApiProcess(nats.url, folder) as api,
        Service(
            "tailrace_worker", {"NATS_URL": nats.url, **environment}, folder / "worker.log"
        ) as _worker,
        httpx.Client(base_url=api.url, timeout=60) as client,
    ):
        for name, flow in (("child", CHILD), ("flow", FLOW)):
            client.put(f"/api/v1/workflows/{name}", json=flow).raise_for_status()
        yield client


@settings(max_examples=4, phases=[Phase.generate], deadline=None)
@given(st.lists(WRITABLE, min_size=8, max_size=8))
def test_values_pass_the_system_unchanged(http: httpx.Client, values: list[Any]):
    """Through input, function, reports, child run, form and trigger."""
    runs = {}
    for index, value in enumerate(values):
        field = f'{{"k": {index}, "v": {write(value)}}}'
        answer = post(http, "workflows/flow/runs", f'{{"input": {field}}}')
        if not is_refused(answer, value, "/input/v"):
            runs[answer.json()["execution_id"]] = (index, value)
    for run, (index, value) in runs.items():
        ended(http, run, "paused")
        approved = post(http, f"executions/{run}/resume", decision(value))
        assert approved.status_code == 202, approved.text
        heard = post(http, "triggers/heard", f'{{"k": {index}, "v": {write(value)}}}')
        assert heard.status_code == 202, heard.text
    for run, (_index, value) in runs.items():
        document = ended(http, run, "completed")
        assert is_equal(value, document["input"]["v"])
        for way, found in document["output"].items():
            assert is_equal(value, found), way
        logs = http.get(f"/api/v1/executions/{run}?include_logs=true").json()["logs"]
        reports = [
            entry["data"]["fields"]["value"]
            for entry in logs
            if entry["type"] in {"step:log", "step:progress"}
        ]
        assert len(reports) == 2
        assert all(is_equal(value, report) for report in reports)


@settings(max_examples=25, phases=[Phase.generate], deadline=None)
@given(WRITABLE)
@pytest.mark.parametrize("entry", ["schedule", "form", "trigger", "definition"])
def test_every_body_refuses_a_value_with_its_place(http: httpx.Client, entry: str, value: Any):
    """A value that is accepted is shown unchanged."""
    if entry == "schedule":
        answer = post(
            http,
            "schedules",
            f'{{"id": "s", "workflow_id": "flow", "cron": "@daily", "input": '
            f'{{"k": 0, "v": {write(value)}}}}}',
        )
        if not is_refused(answer, value, "/input/v"):
            shown = http.get("/api/v1/schedules/s").json()["input"]["v"]
            assert is_equal(value, answer.json()["input"]["v"])
            assert is_equal(value, shown)
    elif entry == "form":
        # The body is checked before the execution is looked for.
        answer = post(
            http, "executions/00000000-0000-7000-8000-000000000000/resume", decision(value)
        )
        assert is_refused(answer, value, "/data/v") or answer.status_code == 404
    elif entry == "trigger":
        answer = post(http, "triggers/quiet", f'{{"k": 0, "v": {write(value)}}}')
        is_refused(answer, value, "/v", levels=LEVELS + 1, characters=CHARACTERS + 5)
    else:
        body = (
            f'{{"id": "f", "nodes": {{"a": {{"type": "transform", "with": '
            f'{{"value": {write(value)}}}}}}}}}'
        )
        answer = post(http, "workflows/validate", body)
        # A text may begin an expression.
        if "$" not in body:
            is_refused(answer, value, "/nodes/a/with/value", levels=96, characters=2033)


def post(http: httpx.Client, path: str, body: str) -> httpx.Response:
    """Send a body as it is written."""
    answer = http.post(
        f"/api/v1/{path}", content=body.encode(), headers={"Content-Type": "application/json"}
    )
    assert answer.status_code < 500, answer.text
    return answer


def decision(value: Any) -> str:
    """Return the body that decides the step ``ask``."""
    return f'{{"node_id": "ask", "data": {{"v": {write(value)}}}}}'


def is_refused(
    answer: httpx.Response,
    value: Any,
    place: str,
    *,
    levels: int = LEVELS,
    characters: int = CHARACTERS,
) -> bool:
    """Check that a value is refused if, and only if, it must be, and with its place."""
    wrong = wrong_places(value, levels=levels, path_characters=characters)
    if not wrong:
        assert answer.status_code not in {400, 413, 422}, answer.text
        return False
    assert answer.status_code in {400, 422}, answer.text
    # A repeated key is reported itself, not its object.
    is_placed = any(
        error["pointer"].startswith(place + pointer)
        for error in answer.json()["errors"]
        for pointer in wrong
    )
    assert is_placed or "line " in answer.json()["detail"], (answer.text, wrong)
    return True


def ended(http: httpx.Client, run: str, status: str) -> dict[str, Any]:
    """Wait until a run has a status; return its document."""
    until = time.monotonic() + 60
    while True:
        document: dict[str, Any] = json.loads(http.get(f"/api/v1/executions/{quote(run)}").content)
        if document["status"] == status:
            return document
        assert document["status"] in {"queued", "running", "paused"}, document
        assert time.monotonic() < until, document
        time.sleep(0.02)
