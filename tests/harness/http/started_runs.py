"""Runs of a running system, started and read by its API."""

from typing import Any

import httpx

from harness.http.windows import TIMEOUT_MS


def api_of(url: str) -> httpx.AsyncClient:
    """Return a client that is as patient as the pages of a test."""
    return httpx.AsyncClient(base_url=url, timeout=TIMEOUT_MS / 1000)


async def start_run(
    url: str, workflow: str, definition: Any, value: Any = None, tags: tuple[str, ...] = ()
) -> str:
    """Store a workflow and start a run of it; return the id of the run."""
    async with api_of(url) as http:
        path = f"/api/v1/workflows/{workflow}"
        (await http.put(path, json=definition)).raise_for_status()
        body = {"input": value or {}, "tags": [*tags]}
        started = await http.post(f"{path}/runs", json=body)
        return str(started.raise_for_status().json()["execution_id"])


async def end_of(url: str, run: str, **query: Any) -> dict[str, Any]:
    """Follow a run's stream until it ends; return its document."""
    async with api_of(url) as http:
        await http.get(f"/api/v1/sse/executions/{run}/stream")
        answer = await http.get(f"/api/v1/executions/{run}", params=query)
        document: dict[str, Any] = answer.raise_for_status().json()
        return document
