"""An API and a worker as processes, with their probes."""

import asyncio
import contextlib
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import httpx

from harness.processes.api_process import ApiProcess
from harness.processes.polling import until
from harness.processes.ports import free_port
from harness.processes.service import Service

_TERMINAL: Final = {"completed", "failed", "cancelled"}


class ApiAndWorker:
    """An API and a worker.

    Args:
        nats_url: the NATS that they connect to.
        folder: for their logs.
        settings: those of both, as strings.
    """

    def __init__(self, nats_url: str, folder: Path, **settings: str) -> None:
        self.api = ApiProcess(nats_url, folder, **settings)
        port = free_port()
        environment = {
            "NATS_URL": nats_url,
            "TAILRACE_METRICS_PORT": str(port),
            "TAILRACE_ACK_WAIT": "2s",
            **{f"TAILRACE_{name.upper()}": value for name, value in settings.items()},
        }
        self.worker = Service("tailrace_worker", environment, folder / f"worker-{port}.log")
        self.urls = [self.api.url, f"http://127.0.0.1:{port}"]
        self.http = httpx.AsyncClient(base_url=self.api.url, timeout=60)

    async def start(self) -> None:
        """Start both; return when both are ready."""
        await asyncio.gather(*map(asyncio.to_thread, (self.api.start, self.worker.start)))

    async def close(self) -> None:
        """Kill both."""
        self.api.kill()
        self.worker.kill()
        await self.http.aclose()

    async def probe(self, path: str) -> list[tuple[int, dict[str, Any]]]:
        """Return what both answer to a probe; status 0 if one does not answer."""
        return [await self._probe(url + path) for url in self.urls]

    async def _probe(self, url: str) -> tuple[int, dict[str, Any]]:
        try:
            answer = await self.http.get(url)
        except httpx.TransportError:
            return 0, {}
        return answer.status_code, answer.json()

    async def until_ready(self, *, ready: bool = True) -> list[str]:
        """Wait until both are ready, or both are not; return why they are not."""
        wanted = 200 if ready else 503
        found: list[tuple[int, dict[str, Any]]] = []

        async def has_come() -> bool:
            found[:] = await self.probe("/readyz")
            return all(status == wanted for status, _ in found)

        await until(has_come)
        return [reason for _, body in found for reason in body.get("reasons", [])]

    async def store_workflow(self) -> None:
        """Store the workflow that ``start_run`` runs."""
        nodes = {
            "a": {"type": "transform", "with": {"value": 1}},
            "b": {"type": "delay", "with": {"duration": "1s"}, "needs": ["a"]},
        }
        answer = await self.http.put("/api/v1/workflows/flow", json={"nodes": nodes})
        assert answer.status_code < 300, answer.text

    async def start_run(self) -> tuple[str, float]:
        """Ask for a run; return its id, empty if it was not accepted, and how long that took."""
        began = time.monotonic()
        answer = await self.http.post("/api/v1/workflows/flow/runs", json={})
        is_accepted = answer.status_code == 202
        run = answer.json()["execution_id"] if is_accepted else ""
        return run, time.monotonic() - began

    async def all_completed(self, runs: list[str]) -> None:
        """Wait until all runs have ended, and check that they completed."""
        for run in runs:
            ended: list[str] = []
            await until(functools.partial(self._has_ended, run, ended), 90)
            assert ended == ["completed"]

    async def _has_ended(self, run: str, ended: list[str]) -> bool:
        # One answer both waits and is checked: the next one may be refused while NATS is away.
        if (status := await self._status(run)) in _TERMINAL:
            ended.append(status)
        return bool(ended)

    async def _status(self, run: str) -> str:
        answer = await self.http.get(f"/api/v1/executions/{run}")
        return str(answer.json()["status"]) if answer.status_code == 200 else ""


OpenServices = Callable[..., contextlib.AbstractAsyncContextManager[ApiAndWorker]]
"""The fixture ``services``: makes an API and a worker on a NATS, to be started by the test."""
