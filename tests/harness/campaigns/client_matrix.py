"""Follow every stream with every client, each cut four times and moved between two replicas."""

import asyncio
import contextlib
import itertools
import os
import shutil
import threading
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx
import msgspec
from httpx_sse import aconnect_sse
from playwright.async_api import Page, async_playwright
from sseclient import SSEClient

from harness.generators.hand_written_log import NOW, HandWrittenLog, completed, started
from harness.http.client_gate import CUTS, ClientGate, open_gate
from harness.processes.required_tools import skip_or_fail
from harness.sse.client import SseClient, SseEvent, is_of_stream
from tailrace_shared.execution import events as ev

HERE: Final = Path(__file__).parents[2] / "e2e/clients"
STREAMS: Final = (
    *("execution", "run-and-stream", "paused", "pipelines", "feed", "several", "lists"),
)
NODE: Final = (
    "eventsource",
    "eventsource-client",
    "eventsource-parser",
    "event-source-polyfill",
    "reconnecting-eventsource",
    "fetch-event-source",
    "fetch-event-source-readme",
    "fetch-event-source-204",
)
BROWSER: Final = ("chromium", "sse.js")
GO: Final = ("r3labs", "go-sse")
PYTHON: Final = ("httpx-sse", "sseclient-py")
CLIENTS: Final = (*NODE, *BROWSER, *GO, *PYTHON, "okhttp-sse")
POSTING: Final = frozenset(
    {
        *("eventsource-parser", "fetch-event-source", "fetch-event-source-readme"),
        *("fetch-event-source-204", "sse.js", "go-sse", "httpx-sse", "okhttp-sse"),
    }
)
"""Clients that can send the request that starts a run."""

_BUILT: Final = {
    "node/node_modules": "npm ci --prefix node",
    "go/clients": "cd go && go build -o clients .",
    "java/lib": "cd java && mvn dependency:copy-dependencies -DoutputDirectory=lib",
}
"""The packages of the clients, and how to install or build each."""
_TYPES: Final = (
    *("connected", "message", "error", "heartbeat", "stream:reset", "stream:position"),
    *("stream:refused", "execution:queued", "execution:started", "execution:paused"),
    *("execution:resumed", "execution:completed", "step:started", "step:waiting"),
    *("step:progress", "step:completed", "paused.initial", "workflow.paused"),
    *("workflow.resumed", "workflow.cancelled", "batch_update", "status_update", "progress"),
    *("stage", "completion", "paused", "feed", "pipeline:flow"),
    *("runs", "runs:flow", "stats", "tag:eu"),
)
# What streams of several topics have opened with last.
_LAST_SNAPSHOT: Final = {
    "several": ("pipeline:flow", "batch_update"),
    "lists": ("tag:eu", "runs.initial"),
}
_BODY: Final = b'{"flow_id":"flow","input_data":{"poId":"po-1"}}'
_KEY: Final = "matrix"
_ROUNDS: Final = 6
_TIMEOUT_S: Final = 120.0


class Received(NamedTuple):
    """An event as a client hands it to its user."""

    id: str
    type: str
    data: str


@dataclass(slots=True)
class Followed:
    """The events that one client received of one stream.

    Attributes:
        statuses: of the answers that it got.
        cuts: the number of times that it was cut.
    """

    events: list[Received] = field(default_factory=list)
    has_stopped: bool = False
    statuses: list[int] = field(default_factory=list)
    cuts: int = 0


@dataclass(slots=True)
class Outcome:
    """The events that all clients received.

    Attributes:
        expected: by stream, the events of the log as an uncut client received them.
        followed: by client and stream.
    """

    expected: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    followed: dict[tuple[str, str], Followed] = field(default_factory=dict)


def logged(events: Sequence[Received]) -> list[tuple[str, str]]:
    """Return the name and the data of the events that are in the log."""
    return [
        (event.type, event.data)
        for event in events
        if not is_of_stream(event.type, msgspec.json.decode(event.data))
    ]


def is_whole(event: Received) -> bool:
    """Return whether the data is JSON, and not a part of it."""
    try:
        msgspec.json.decode(event.data)
    except msgspec.DecodeError:
        return False
    return True


class Matrix:
    """Clients on two replicas that share a log."""

    def __init__(self, log: HandWrittenLog, api_ports: Sequence[int]) -> None:
        files = {
            "/": ("text/html", (HERE / "page.html").read_bytes()),
            "/sse.js": (
                "text/javascript",
                (HERE / "node/node_modules/sse.js/lib/sse.js").read_bytes(),
            ),
        }
        self.outcome = Outcome()
        self._log = log
        self._port = api_ports[0]
        self._gate = ClientGate(api_ports, files)
        self._runs: dict[str, Followed] = defaultdict(Followed)
        self._processes: list[Process] = []
        self._tasks: list[asyncio.Task[Any]] = []
        self._is_over = threading.Event()
        # Streams that the uncut client has begun to receive.
        self._referenced: set[str] = set()

    async def run(self) -> Outcome:
        """Follow, write the log, and wait until all clients have all of it and have ended."""
        self._log.execution = await self._start_run()
        await self._log.commit(started(self._log.execution))
        async with contextlib.AsyncExitStack() as stack:
            ports = await stack.enter_async_context(open_gate(self._gate, len(STREAMS)))
            pages = await stack.enter_async_context(_pages(len(STREAMS)))
            references = [asyncio.create_task(self._reference(each)) for each in STREAMS]
            try:
                await self._start(ports, pages)
                await self._until(self._have_begun)
                await self._write()
                for stream, reference in zip(STREAMS, references, strict=True):
                    async with asyncio.timeout(_TIMEOUT_S):
                        self.outcome.expected[stream] = await reference
                await self._until(self._have_all)
                await self._until(self._are_connected)
                await self._gate.finish()
                await self._until(self._have_ended)
            finally:
                await self._stop()
        for (client, stream), name in self._names():
            followed, run = self._runs[name], self._gate.runs[name]
            followed.statuses, followed.cuts = run.statuses, run.cuts
            self.outcome.followed[client, stream] = followed
        return self.outcome

    def _names(self) -> list[tuple[tuple[str, str], str]]:
        return [
            ((client, stream), f"{client}.{stream}")
            for client, stream in itertools.product(CLIENTS, STREAMS)
            if stream != "run-and-stream" or client in POSTING
        ]

    async def _start_run(self) -> str:
        async with self._open("run-and-stream") as stream:
            (first,) = await stream.take(1)
        self._log.last = int(first.id.split("-")[1])
        execution: str = first.json()["data"]["execution_id"]
        return execution

    def _path(self, stream: str) -> str:
        execution = self._log.execution
        return {
            "execution": f"/api/v1/sse/executions/{execution}/stream",
            "run-and-stream": "/api/v1/executions/stream",
            "paused": "/api/workflow/paused-stream",
            "pipelines": "/ui-api/pipeline/status/stream?pipelineIds=flow",
            "feed": "/api/realtime/events",
            "several": f"/api/v1/sse/stream?topics=execution:{execution},paused,feed,pipeline:flow",
            "lists": "/api/v1/sse/stream?topics=runs,runs:flow,stats,tag:eu",
        }[stream]

    @property
    def _types(self) -> str:
        return ",".join([*_TYPES, f"execution:{self._log.execution}"])

    def _open(self, stream: str) -> SseClient:
        if stream != "run-and-stream":
            return SseClient(self._port, self._path(stream))
        return SseClient(
            self._port,
            self._path(stream),
            method="POST",
            headers={"idempotency-key": _KEY},
            body=msgspec.json.decode(_BODY),
        )

    async def _reference(self, stream: str) -> list[tuple[str, str]]:
        found: list[SseEvent] = []
        async with self._open(stream) as client:
            while not any(map(_is_end, found)):
                some = await client.read()
                assert some is not None, f"the stream {stream} has ended early"
                found += some
                if some and stream not in self._referenced:
                    self._referenced.add(stream)
                    async with self._gate.changed:
                        self._gate.changed.notify_all()
        return logged([Received(each.id, each.type, each.data) for each in found])

    # The clients

    async def _start(self, ports: Sequence[int], pages: Sequence[Page]) -> None:
        names = [name for _, name in self._names()]
        urls = {
            name: "POST " * name.endswith("run-and-stream") + self._url(name, ports[0])
            for name in names
        }

        def chosen(clients: Sequence[str]) -> list[str]:
            return [name for name in names if name.rpartition(".")[0] in clients]

        node = [self._types]
        node += [
            word for name in chosen(NODE) for word in (name.rpartition(".")[0], name, urls[name])
        ]
        go = [word for name in chosen(GO) for word in (name.rpartition(".")[0], name, urls[name])]
        java = [word for name in chosen(["okhttp-sse"]) for word in (name, urls[name])]
        await self._execute(required_program("node"), str(HERE / "node/follow.js"), *node)
        await self._execute(str(HERE / "go/clients"), *go)
        await self._execute(
            required_program("java"),
            *("-cp", str(HERE / "java/lib/*"), str(HERE / "java/Follow.java")),
            *java,
        )
        for name in chosen(PYTHON):
            follow = self._httpx_sse if name.startswith("httpx-sse") else self._sseclient
            self._tasks.append(asyncio.create_task(follow(name, self._url(name, ports[0]))))
        for page, port, stream in zip(pages, ports, STREAMS, strict=True):
            fragment = f"{self._path(stream)} {stream} {self._types}"
            if stream == "run-and-stream":
                fragment += f" {_KEY} {_BODY.decode()}"
            await page.goto(f"http://127.0.0.1:{port}/#{fragment}")
            self._tasks.append(asyncio.create_task(self._read_page(page)))

    def _url(self, name: str, port: int) -> str:
        path = self._path(name.rpartition(".")[2])
        return f"http://127.0.0.1:{port}{path}{'&' if '?' in path else '?'}run={name}"

    async def _execute(self, program: str, *arguments: str) -> None:
        process = await asyncio.create_subprocess_exec(
            program,
            *arguments,
            stdout=PIPE,
            stderr=DEVNULL,
            env={**os.environ, "BODY": _BODY.decode(), "KEY": _KEY},
            limit=2**20,
        )
        self._processes.append(process)
        self._tasks.append(asyncio.create_task(self._read_lines(process)))

    async def _read_lines(self, process: Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            await self._take(msgspec.json.decode(line))

    async def _read_page(self, page: Page) -> None:
        while True:
            for line in await page.evaluate("lines.splice(0)"):
                await self._take(line)
            await asyncio.sleep(0.05)

    async def _take(self, line: dict[str, Any]) -> None:
        followed = self._runs[line["run"]]
        if line.get("stopped"):
            followed.has_stopped = True
        else:
            followed.events.append(Received(line["id"], line["type"], line["data"]))
        async with self._gate.changed:
            self._gate.changed.notify_all()

    async def _httpx_sse(self, name: str, url: str) -> None:
        method, more = "GET", {}
        if name.endswith("run-and-stream"):
            method = "POST"
            more = {"content-type": "application/json", "idempotency-key": _KEY}
        last_event_id = ""
        async with httpx.AsyncClient(timeout=None) as client:
            while True:
                headers = more | ({"last-event-id": last_event_id} if last_event_id else {})
                content = _BODY if method == "POST" else None
                with contextlib.suppress(httpx.TransportError):
                    async with aconnect_sse(
                        client, method, url, headers=headers, content=content
                    ) as source:
                        if source.response.status_code == 204:
                            await self._take({"run": name, "stopped": True})
                            return
                        async for event in source.aiter_sse():
                            last_event_id = event.id
                            line = {"id": event.id, "type": event.event, "data": event.data}
                            await self._take({"run": name, **line})
                await asyncio.sleep(0.02)

    async def _sseclient(self, name: str, url: str) -> None:
        loop = asyncio.get_running_loop()

        def take(line: dict[str, Any]) -> None:
            asyncio.run_coroutine_threadsafe(self._take({"run": name, **line}), loop).result()

        def follow() -> None:
            last_event_id = ""
            with httpx.Client(timeout=None) as client:
                while not self._is_over.wait(0.02):
                    headers = {"last-event-id": last_event_id} if last_event_id else {}
                    with (
                        contextlib.suppress(httpx.TransportError),
                        client.stream("GET", url, headers=headers) as response,
                    ):
                        if response.status_code == 204:
                            take({"stopped": True})
                            return
                        for event in SSEClient(_generated(response)).events():
                            last_event_id = event.id or last_event_id
                            take({"id": event.id or "", "type": event.event, "data": event.data})

        await asyncio.to_thread(follow)

    # The log

    async def _write(self) -> None:
        for number in range(_ROUNDS):
            node = f"wait{number}"
            begun = ev.StepBegun(node, "await", "running", 1, NOW, f"Wait {number}", f"s{number}")
            wait = ev.StepWait(
                node, "await", "waiting", wait="signal", attempt=1, reason=f"é {number}"
            )
            done = ev.StepDone(
                node, "await", "success", 1, NOW, NOW, 1, {"n": number}, stage=f"s{number}"
            )
            execution = self._log.execution
            await self._log.commit(
                ev.StepStarted(begun, NOW),
                ev.StepProgressed(
                    ev.StepProgress(node, "await", 50.0, f"half {number}", {"n": number}), NOW
                ),
                ev.StepWaiting(wait, NOW),
                ev.ExecutionPaused(ev.Paused(execution, "paused", "approval", waiting=[node]), NOW),
            )
            await self._log.commit(
                ev.ExecutionResumed(ev.Resumed(execution, "running", node), NOW),
                ev.StepCompleted(done, NOW),
            )
        # Streams of several topics show different parts of a commit, so the end is in one of all.
        await self._log.commit(completed(self._log.execution, {"out": "é\r\n\u2028"}))

    # Progress

    async def _until(self, is_reached: Callable[[], list[str]]) -> None:
        try:
            async with asyncio.timeout(_TIMEOUT_S), self._gate.changed:
                while is_reached():
                    await self._gate.changed.wait()
        except TimeoutError:
            # The assertions of the tests describe what is missing.
            return

    def _have_begun(self) -> list[str]:
        late = [name for (_, stream), name in self._names() if not self._has_begun(stream, name)]
        return [*late, *(stream for stream in STREAMS if stream not in self._referenced)]

    def _has_begun(self, stream: str, name: str) -> bool:
        """Return whether a client will receive all that is written to the log from now on."""
        if stream in _LAST_SNAPSHOT:
            # If the last topic is opened later, as for a client that has been cut before, what has
            # been written meanwhile is a part of its snapshot.
            topic, snapshot = _LAST_SNAPSHOT[stream]
            events = self._runs[name].events
            return any(event.type == topic and snapshot in event.data for event in events)
        run = self._gate.runs[name]
        return bool(run.positions or (stream == "execution" and run.statuses))

    def _have_all(self) -> list[str]:
        return [
            name
            for (_, stream), name in self._names()
            if len(logged([each for each in self._runs[name].events if is_whole(each)]))
            < len(self.outcome.expected[stream])
        ]

    def _are_connected(self) -> list[str]:
        """Return the clients without an open stream that have not received an end, or a 204.

        The gate ends all streams at once, and each client must receive the end of its own.
        """
        return [
            name
            for _, name in self._names()
            if not (
                (self._gate.runs[name].cuts >= CUTS and self._gate.runs[name].is_open)
                or self._runs[name].has_stopped
                or 204 in self._gate.runs[name].statuses
            )
        ]

    def _have_ended(self) -> list[str]:
        return [
            name
            for _, name in self._names()
            if not self._runs[name].has_stopped and self._gate.runs[name].statuses.count(204) < 3
        ]

    async def _stop(self) -> None:
        self._is_over.set()
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _is_end(event: SseEvent) -> bool:
    """Return whether an event is the last that its stream shows of the run."""
    last = f'"resumedFrom":"wait{_ROUNDS - 1}"'
    return (
        event.type
        in ("execution:completed", "pipeline:flow", "status_update", "progress", "tag:eu")
        and ('"completed"' in event.data or '"progress":100' in event.data)
    ) or (
        '"executionFinished"' in event.data
        or (event.type == "workflow.resumed" and last in event.data)
    )


def require_clients() -> None:
    """Skip the test where a client, or a program that runs it, is missing."""
    for name in ("node", "java", "chromium"):
        required_program(name)
    for built, remedy in _BUILT.items():
        if not (HERE / built).exists():
            skip_or_fail(built, f"in {HERE}, {remedy}")


def required_program(name: str) -> str:
    """Return the path of a program; skip the test where it is missing."""
    program = shutil.which(name)
    if program is None:
        skip_or_fail(name, "see .ci/run for what to install")
    return program


@contextlib.asynccontextmanager
async def _pages(count: int) -> AsyncIterator[list[Page]]:
    """Open pages in one browser; see `harness.http.browser`."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=required_program("chromium"), chromium_sandbox=os.geteuid() != 0
        )
        try:
            yield [await browser.new_page() for _ in range(count)]
        finally:
            await browser.close()


def _generated(response: httpx.Response) -> Generator[bytes, None, None]:
    yield from response.iter_bytes()
