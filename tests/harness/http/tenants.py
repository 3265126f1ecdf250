"""Two tenants whose workflows and schedules have the same ids, on one system."""

import asyncio
from typing import Any, NamedTuple

import httpx

from harness.http.generated_requests import FLOW
from harness.http.token_issuer import bearer, token
from harness.processes.in_process_api import InProcessApi
from harness.sse.client import SseClient

TENANT_SCOPES = "workflows:read workflows:write executions:read executions:write"


class Tenant(NamedTuple):
    """A tenant with workflows and runs.

    Attributes:
        name: its organisation.
        marker: a text that occurs in all of its data.
        http: a client with all scopes except ``operator``.
        port: the port of the API.
        completed: the id of a completed execution.
        waiting: the id of an execution that waits for a signal.
        cancelled: the id of a cancelled execution.
    """

    name: str
    marker: str
    http: httpx.AsyncClient
    port: int
    completed: str = ""
    waiting: str = ""
    cancelled: str = ""

    @property
    def headers(self) -> dict[str, str]:
        """The ``Authorization`` header with its token."""
        return bearer(token(sub=f"of-{self.name}", org=self.name, scope=TENANT_SCOPES))

    @property
    def own(self) -> list[str]:
        """Texts that no other tenant may see."""
        return [self.marker, self.completed, self.waiting, self.cancelled, f"{self.name}-only"]

    async def run(self, workflow: str) -> str:
        """Start a run; return its execution id."""
        answer = await self.http.post(
            f"/api/v1/workflows/{workflow}/runs",
            json={"input": {"marker": self.marker}},
            headers={"idempotency-key": f"the-same-{workflow}"},
        )
        assert answer.status_code == 202, answer.text
        execution: str = answer.json()["execution_id"]
        return execution

    async def until(self, execution: str, *types: str) -> None:
        """Wait for an event of one of these types."""
        path = f"/api/v1/sse/executions/{execution}/stream"
        async with SseClient(self.port, path, headers=self.headers) as stream:
            async for event in stream:
                if event.type in types:
                    return
        raise AssertionError(f"{execution} has ended without {types}")

    async def populate(self) -> "Tenant":
        """Create the same workflows, schedules and runs as every other tenant."""
        quick = {"nodes": {"make": FLOW["nodes"]["make"]}}
        for workflow, definition in (
            ("flow", FLOW),
            ("quick", quick),
            (f"{self.name}-only", FLOW),
        ):
            answer = await self.http.put(
                f"/api/v1/workflows/{workflow}",
                json={**definition, "name": f"{workflow} of {self.marker}"},
            )
            assert answer.status_code == 201, answer.text
        for schedule in ("nightly", f"{self.name}-plan"):
            body = {"id": schedule, "workflow_id": "flow", "cron": "0 0 3 1 1 *"}
            answer = await self.http.post(
                "/api/v1/schedules", json={**body, "input": {"marker": self.marker}}
            )
            assert answer.status_code == 201, answer.text
        completed, waiting = await self.run("quick"), await self.run("flow")
        cancelled = await self.run(f"{self.name}-only")
        await self.http.post(
            f"/api/v1/executions/{cancelled}/cancel", json={"reason": f"because {self.marker}"}
        )
        await self.until(completed, "execution:completed")
        await self.until(waiting, "execution:paused")
        await self.until(cancelled, "execution:cancelled")
        await self._indexed({completed: "completed", waiting: "paused", cancelled: "cancelled"})
        return self._replace(completed=completed, waiting=waiting, cancelled=cancelled)

    async def _indexed(self, runs: dict[str, str]) -> None:
        """Wait until the lists agree with the logs; the indexes are written after the log."""
        paused = [execution for execution, status in runs.items() if status == "paused"]
        while True:
            listed = (await self.http.get("/api/v1/executions")).json()["runs"]
            waits = (await self.http.get("/api/v1/waiting")).json()["waiting"]
            if {run["execution_id"]: run["status"] for run in listed} == runs and [
                wait["execution_id"] for wait in waits
            ] == paused:
                return
            await asyncio.sleep(0.02)

    async def snapshot(self) -> Any:
        """Return all of its data as it sees it, without fields that change with time."""
        seen = []
        for path in (
            "/api/v1/workflows",
            "/api/v1/workflows/flow",
            f"/api/v1/workflows/{self.name}-only",
            "/api/v1/executions",
            *(
                f"/api/v1/executions/{execution}?include_logs=true"
                for execution in (self.completed, self.waiting, self.cancelled)
            ),
            "/api/v1/waiting",
            "/api/v1/schedules",
        ):
            answer = await self.http.get(path)
            assert answer.status_code == 200, answer.text
            seen.append(_without_times(answer.json()))
        return seen


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: _without_times(item)
            for name, item in value.items()
            if name not in {"duration_ms", "eta_ms", "next_at", "progress"}
        }
    return [_without_times(item) for item in value] if isinstance(value, list) else value


class Tenants(NamedTuple):
    """A system with two tenants; tests let ``bob`` try to reach what belongs to ``ann``."""

    api: InProcessApi
    ann: Tenant
    bob: Tenant
