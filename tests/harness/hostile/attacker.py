"""A tenant that attacks an installation, and remembers how it is refused."""

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final, Self

import httpx

from harness.http.tenants import TENANT_SCOPES
from harness.http.token_issuer import bearer, token
from harness.processes.polling import until

_MAX_TEXT_CHARS: Final = 4000
_OPENED_AT_ONCE: Final = 16
_ENDED: Final = ("completed", "failed", "cancelled")


class Attacker:
    """A hostile tenant.

    Args:
        name: its organization.
        port: of the API.
        seconds: how long an attack lasts.

    Attributes:
        answers: the number of answers.
        refusals: the different texts with which it was refused.
        until: when the attack should end, by ``time.monotonic``.
    """

    def __init__(self, name: str, port: int, seconds: float) -> None:
        self.name = name
        self.port = port
        self.headers = bearer(token(sub=f"of-{name}", org=name, scope=TENANT_SCOPES))
        self.answers = 0
        self.refusals: set[str] = set()
        self.until = time.monotonic() + seconds
        self._seconds = seconds
        self._closing = contextlib.AsyncExitStack()
        self._gate = asyncio.Semaphore(_OPENED_AT_ONCE)

    async def __aenter__(self) -> Self:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
        self._http = await self._closing.enter_async_context(
            httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{self.port}",
                headers=self.headers,
                timeout=60,
                limits=limits,
            )
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._closing.aclose()

    def begin(self) -> None:
        """Begin the time of the attack; what came before was its preparation."""
        self.until = time.monotonic() + self._seconds

    def is_due(self) -> bool:
        """Return whether the time of the attack is over."""
        return time.monotonic() > self.until

    async def ask(self, method: str, path: str, body: Any = None, **options: Any) -> httpx.Response:
        """Make a request; remember a refusal."""
        if body is not None:
            options["json"] = body
        answer = await self._http.request(method, path, **options)
        self.answers += 1
        if answer.status_code >= 400:
            self.refused(answer.text)
        return answer

    def refused(self, text: str) -> None:
        """Remember a refusal."""
        self.refusals.add(text[:_MAX_TEXT_CHARS])

    async def put(self, workflow: str, nodes: dict[str, Any], **fields: Any) -> bool:
        """Store a workflow; return whether it was accepted."""
        path = f"/api/v1/workflows/{workflow}"
        return (await self.ask("PUT", path, {"nodes": nodes, **fields})).is_success

    async def start(self, workflow: str, run_input: Any = None) -> str:
        """Start a run; return its id, empty if it was refused."""
        path = f"/api/v1/workflows/{workflow}/runs"
        answer = await self.ask("POST", path, {"input": run_input or {}})
        return str(answer.json()["execution_id"]) if answer.is_success else ""

    async def start_many(self, workflow: str, count: int, run_input: Any = None) -> list[str]:
        """Start runs, ten at once; return the ids of those that were accepted."""
        gate = asyncio.Semaphore(10)

        async def start() -> str:
            async with gate:
                return await self.start(workflow, run_input)

        ids = await asyncio.gather(*(start() for _ in range(count)))
        return [execution for execution in ids if execution]

    async def document(self, execution: str) -> dict[str, Any]:
        """Return the document of a run, and remember its errors."""
        answer = await self.ask("GET", f"/api/v1/executions/{execution}")
        found: dict[str, Any] = answer.json()
        if found.get("status") == "failed":
            found.pop("input")
            self.refused(json.dumps(found))
        return found

    async def ended(self, execution: str) -> str:
        """Wait until a run has ended; return its status."""
        return await self.reach(execution, *_ENDED)

    async def reach(self, execution: str, *statuses: str) -> str:
        """Wait until a run has one of some statuses; return it."""
        found = [""]

        async def has_come() -> bool:
            found[0] = str((await self.document(execution)).get("status"))
            return found[0] in statuses

        await until(has_come)
        return found[0]

    async def repeat(self, act: Callable[[], Awaitable[object]], at_once: int = 16) -> None:
        """Do something again and again, several at once, for the time of the attack."""

        async def go_on() -> None:
            while not self.is_due():
                await act()

        self.begin()
        await asyncio.gather(*(go_on() for _ in range(at_once)))

    async def send(self, *parts: bytes, pause: float = 0.0, keep: bool = False) -> None:
        """Send bytes over a connection of its own, and remember the answer.

        Args:
            parts: sent one after the other, for as long as nothing is answered.
            pause: between them, in seconds.
            keep: keep the connection open until the attack ends, and read the first bytes only.
        """
        async with self._gate:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            # A writer that is not referenced closes its connection.
            self._closing.callback(_abort, writer)
            with contextlib.suppress(ConnectionError):
                writer.write(parts[0])
                await writer.drain()
        with contextlib.suppress(ConnectionError):
            for part in parts[1:]:
                await asyncio.sleep(pause)
                writer.write(part)
                await writer.drain()
            if keep:
                answer = await reader.read(_MAX_TEXT_CHARS)
                if b"connection: close" in answer:
                    answer += await reader.read(_MAX_TEXT_CHARS)
                self._answered(answer.decode())
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.5, self.until - time.monotonic())):
                    answer = await reader.read(_MAX_TEXT_CHARS)
                    if answer.endswith(b"\r\n\r\n"):
                        answer += await reader.read(_MAX_TEXT_CHARS)
                    self._answered(answer.decode(errors="replace"))
        writer.transport.abort()

    def _answered(self, text: str) -> None:
        self.answers += 1
        if not text.startswith("HTTP/1.1 2") or "stream:refused" in text:
            self.refused(text)

    def head(self, method: str, path: str, *more: str) -> bytes:
        """Return the head of a request."""
        lines = (
            f"{method} {path} HTTP/1.1",
            "host: 127.0.0.1",
            "content-type: application/json",
            f"authorization: {self.headers['authorization']}",
            *more,
        )
        return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _abort(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


def numbers() -> Iterator[int]:
    """Yield numbers that differ."""
    return itertools.count()
