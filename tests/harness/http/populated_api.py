"""Fill an API with one resource of each kind, and read its OpenAPI document."""

import time
from typing import Any, Final, NamedTuple

import httpx

ORGANIZATION: Final = "acme"

_FLOW: Final = {"nodes": {"a": {"type": "transform", "with": {"value": 1}}}}
_WAITING: Final = {
    "nodes": {"a": {"type": "await", "with": {"reason": "approval", "triggers": ["go"]}}}
}


class PopulatedApi(NamedTuple):
    """An API with one resource of each kind.

    Attributes:
        url: where it listens.
        document: its OpenAPI document.
        headers: headers that every request needs.
        known: values of path parameters that name an existing resource.
    """

    url: str
    document: dict[str, Any]
    headers: dict[str, str]
    known: dict[str, str]


def populate(url: str, headers: dict[str, str]) -> PopulatedApi:
    """Create one resource of each kind and fetch the OpenAPI document.

    Args:
        url: where the API listens.
        headers: headers that every request needs.
    """
    with httpx.Client(base_url=url, headers=headers, timeout=60) as http:
        known = _fill(http)
        document = http.get("/openapi.json").raise_for_status().json()
    # A request may name its tenant in one of three ways; leave out those in the query.
    for operation in (each for path in document["paths"].values() for each in path.values()):
        operation["parameters"] = [
            each
            for each in operation["parameters"]
            if each.get("$ref", "").rpartition("/")[2] not in {"organization_id", "merchantId"}
        ]
    return PopulatedApi(url, document, headers, known)


def _fill(http: httpx.Client) -> dict[str, str]:
    def put(path: str, body: Any) -> None:
        http.put(path, json=body).raise_for_status()

    put("/api/v1/workflows/flow", _FLOW)
    put("/api/v1/workflows/waiting", _WAITING)
    waiting = http.post("/api/v1/workflows/waiting/runs").raise_for_status().json()
    run = http.post("/api/v1/workflows/flow/runs").raise_for_status().json()
    schedule = {"id": "yearly", "workflow_id": "flow", "cron": "0 0 0 1 1 *"}
    http.post("/api/v1/schedules", json=schedule).raise_for_status()
    deadline = time.monotonic() + 60
    document = f"/api/v1/executions/{run['execution_id']}"
    while http.get(document).json()["status"] != "completed":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return {
        "workflow_id": "flow",
        "execution_id": run["execution_id"],
        "waiting_id": waiting["execution_id"],
        "schedule_id": "yearly",
        "step_id": "a",
        "procedure": "go",
    }
