"""The process of a bystander: it uses an installation until it is killed.

It writes a line of JSON with its measurements for each line that it reads. A process of its own
is not delayed by the work of the attacker.
"""

import asyncio
import contextlib
import http.client
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import AsyncGenerator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

import httpx
import msgspec

from harness.hostile.measurement import Clock, Measurements, Report
from harness.sse.client import SseClient, SseEvent

_PERIOD_S: Final = 1.0
_PROBE_PERIOD_S: Final = 0.05
_PROBE_TIMEOUT_S: Final = 60.0
_RETRY_MS: Final = 1_000
_WORKFLOW: Final = "/api/v1/workflows/order"


class _Quick(BaseHTTPRequestHandler):
    """The server that the bystander's runs call."""

    def do_GET(self) -> None:
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Write no access log."""


class Bystander:
    """Starts, approves, lists, and keeps a stream open.

    Args:
        port: of the API.
        headers: the credentials.
        requests: the clock of requests to the API.
        executions: the clock of runs.
        measured: where it records times.
    """

    def __init__(
        self,
        port: int,
        headers: dict[str, str],
        requests: Clock,
        executions: Clock,
        measured: Measurements,
    ) -> None:
        self._port = port
        self._headers = headers
        self._requests = requests
        self._executions = executions
        self._measured = measured
        self._resumed: dict[str, asyncio.Event] = {}
        self._http = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=60
        )

    async def use(self, orders: asyncio.Queue[None]) -> None:
        """Use the installation, and write the measurements after each order."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), _Quick)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        nodes = {
            "call": {"type": "http", "with": {"url": f"http://127.0.0.1:{server.server_port}/"}},
            "approve": {"type": "await", "needs": ["call"], "with": {"reason": "approval"}},
            "done": {"type": "transform", "needs": ["approve"], "with": {"value": "${input}"}},
        }
        (await self._http.put(_WORKFLOW, json={"nodes": nodes})).raise_for_status()
        watching = asyncio.create_task(self._watch())
        while not watching.done():
            began = time.monotonic()
            await self._cycle()
            while not orders.empty():
                orders.get_nowait()
                _write(self._measured.take())
            await asyncio.sleep(max(0.0, began + _PERIOD_S - time.monotonic()))
        await watching

    async def _watch(self) -> None:
        async for event in self._events("/api/v1/sse/stream?topics=paused"):
            if event.type.endswith("workflow.resumed") or "workflow.resumed" in event.data:
                for execution, resumed in self._resumed.items():
                    if execution in event.data:
                        resumed.set()

    async def _events(self, path: str) -> AsyncGenerator[SseEvent, None]:
        """Yield the events of a stream, and open it again where it ends, as a browser does."""
        last_event_id = ""
        while True:
            stream = SseClient(self._port, path, headers=self._headers, last_event_id=last_event_id)
            async with stream:
                async for event in stream:
                    yield event
            last_event_id = stream.parser.last_event_id or last_event_id
            if stream.status == 204:
                raise RuntimeError(f"{path} has ended")
            await asyncio.sleep((stream.parser.retry or _RETRY_MS) / 1000)

    async def _cycle(self) -> None:
        with self._executions.measure("run"):
            started = await self._ask("start", "POST", f"{_WORKFLOW}/runs", {"input": {"n": 1}})
            execution = started["execution_id"]
            resumed = self._resumed[execution] = asyncio.Event()
            path = f"/api/v1/sse/executions/{execution}/stream"
            async with contextlib.aclosing(self._events(path)) as events:
                await _until(events, "execution:paused")
                command = f"/api/v1/executions/{execution}/resume"
                await self._ask("approve", "POST", command, {"decision": "approved"})
                await _until(events, "execution:completed")
        with self._requests.measure("stream"):
            await resumed.wait()
        del self._resumed[execution]
        await self._ask("list", "GET", "/api/v1/executions?limit=20")
        await self._ask("list waiting", "GET", "/api/v1/waiting?limit=20")

    async def _ask(self, what: str, method: str, path: str, body: Any = None) -> dict[str, Any]:
        with self._requests.measure(what):
            answer = await self._http.request(method, path, json=body)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found


async def _until(events: AsyncGenerator[SseEvent, None], name: str) -> None:
    async for event in events:
        if event.type == name:
            return


def _probe(clock: Clock, what: str, port: int) -> None:
    while True:
        with clock.measure(what):
            # A process that gets no CPU for seconds says that it is not live.
            until = time.monotonic() + _PROBE_TIMEOUT_S
            while not _is_live(port):
                if time.monotonic() > until:
                    raise RuntimeError(f"{what} failed")
        time.sleep(_PROBE_PERIOD_S)


def _is_live(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PROBE_TIMEOUT_S)
    connection.request("GET", "/healthz")
    status = connection.getresponse().status
    connection.close()
    return status == 200


def _write(report: Report) -> None:
    sys.stdout.write(msgspec.json.encode(report).decode() + "\n")
    sys.stdout.flush()


def _end(arguments: threading.ExceptHookArgs) -> None:
    """End the process after an exception in a thread."""
    traceback.print_exception(arguments.exc_value)
    os._exit(1)


async def _main(order: dict[str, Any]) -> None:
    loop = asyncio.get_running_loop()
    orders: asyncio.Queue[None] = asyncio.Queue()

    def read() -> None:
        for _ in sys.stdin:
            loop.call_soon_threadsafe(orders.put_nowait, None)

    threading.Thread(target=read, daemon=True).start()
    measured = Measurements()
    api, worker, nats = order["api"], order["worker"], order["nats"]
    for what, clock, port in (
        ("healthz of the API", Clock(measured, api=api), order["port"]),
        ("healthz of the worker", Clock(measured, worker, api=api), order["worker_port"]),
    ):
        threading.Thread(target=_probe, args=(clock, what, port), daemon=True).start()
    requests = Clock(measured, nats, api=api)
    executions = Clock(measured, nats, worker, api=api)
    bystander = Bystander(order["port"], order["headers"], requests, executions, measured)
    await bystander.use(orders)


if __name__ == "__main__":
    threading.excepthook = _end
    asyncio.run(_main(json.loads(sys.argv[1])))
