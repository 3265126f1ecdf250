"""Bodies take what /openapi.json says they take: null, defaults and every word of a choice."""

import copy
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from harness.processes.api_process import ApiProcess

EXECUTION = "00000000-0000-7000-8000-000000000000"
BODIES: dict[str, dict[str, Any]] = {
    "/api/v1/workflows/validate": {
        "id": "w",
        "nodes": {"n": {"type": "await", "timeout": "1h", "retry": {"max_attempts": 1}}},
        "concurrency": {"limit": 1},
    },
    "/api/v1/workflows/{workflow_id}/runs": {"input": {}},
    "/api/v1/executions/{execution_id}/cancel": {"reason": "r"},
    "/api/v1/executions/{execution_id}/pause": {"reason": "r"},
    "/api/v1/executions/{execution_id}/resume": {"node_id": "n", "decision": "approved"},
    "/api/v1/executions/{execution_id}/rerun": {"from_node": "n"},
    "/api/workflow/execute": {"workflowId": "nothing", "input": {}},
    "/api/workflow/resume": {"executionId": EXECUTION, "node": "n"},
    "/api/workflow/cancel": {"executionId": EXECUTION, "reason": "r"},
    "/api/v1/executions/stream": {"flow_id": "nothing", "input_data": {}},
    "/api/v1/schedules": {"workflow_id": "flow", "cron": "@hourly", "id": "s", "input": {}},
}
# A step cannot time out without a timeout, so its effect needs one.
MEANINGLESS: list[tuple[str, Any]] = [("/nodes/n/timeout", None), ("/only_paused", True)]


@pytest.fixture(scope="module")
def description(api: ApiProcess) -> dict[str, Any]:
    """The description of the API, and a workflow that its requests may name."""
    flow = {"nodes": {"n": {"type": "await"}}}
    httpx.put(f"{api.url}/api/v1/workflows/flow", json=flow).raise_for_status()
    document: dict[str, Any] = httpx.get(f"{api.url}/openapi.json").json()
    return document


@pytest.mark.parametrize("path", BODIES)
def test_a_body_takes_the_values_that_its_description_allows(
    api: ApiProcess, description: dict[str, Any], path: str
):
    schemas = description["components"]["schemas"]
    schema = description["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    target = path.format(workflow_id="flow", execution_id=EXECUTION)
    tried = 0
    for pointer, value, body in variants(schemas, schema["schema"], BODIES[path]):
        if (pointer, value) in MEANINGLESS:
            continue
        answer = httpx.post(f"{api.url}{target}", json=body)
        problems = answer.json().get("errors", []) if answer.status_code >= 400 else []
        refused = [each for each in problems if each["pointer"] == pointer]
        assert not refused, (pointer, value)
        assert answer.status_code < 500
        tried += 1
    assert tried


def variants(
    schemas: dict[str, Any], schema: dict[str, Any], whole: dict[str, Any]
) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Yield a body for each value that the schema names for a field, with the field's pointer."""
    for keys, described in places(schemas, schema, whole, ()):
        for value in named_values(described):
            body = copy.deepcopy(whole)
            inner: Any = body
            for key in keys[:-1]:
                inner = inner[key]
            inner[keys[-1]] = value
            yield "".join(f"/{key}" for key in keys), value, body


def places(
    schemas: dict[str, Any], schema: dict[str, Any], value: Any, keys: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Yield the fields that a schema describes for a value, at any depth."""
    for each in alternatives(schemas, schema):
        for name, described in each.get("properties", {}).items():
            yield (*keys, name), described
            if isinstance(value.get(name), dict):
                yield from places(schemas, described, value[name], (*keys, name))
        if isinstance(each.get("additionalProperties"), dict):
            for name, inner in value.items():
                yield from places(schemas, each["additionalProperties"], inner, (*keys, name))


def alternatives(schemas: dict[str, Any], schema: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the schemas that a schema refers to."""
    if "$ref" in schema:
        return alternatives(schemas, schemas[schema["$ref"].rpartition("/")[2]])
    if "anyOf" in schema:
        return [found for each in schema["anyOf"] for found in alternatives(schemas, each)]
    return [schema]


def named_values(schema: dict[str, Any]) -> list[Any]:
    """Return the values that a schema names: its default, its choices, and null."""
    values = [schema["default"]] if "default" in schema else []
    for each in schema.get("anyOf", [schema]):
        values += each.get("enum", [])
        values += [each[bound] for bound in ("minimum", "maximum") if bound in each]
        values += [None] if each.get("type") == "null" else []
        values += [True, False] if each.get("type") == "boolean" else []
    return values
