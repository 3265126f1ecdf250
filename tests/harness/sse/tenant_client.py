"""A tenant's workflows and streams on several API replicas."""

from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import httpx

from harness.sse.client import SseClient, SseEvent, SseParser


class StreamReader:
    """A connection to a stream, read event by event."""

    def __init__(self, client: SseClient) -> None:
        self._client = client
        self._ready: deque[SseEvent] = deque()

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.__aexit__()

    @property
    def parser(self) -> SseParser:
        """The parser of the stream."""
        return self._client.parser

    @property
    def status(self) -> int:
        """The status of the response."""
        return self._client.status

    async def next(self) -> SseEvent:
        """Return the next event."""
        while not self._ready:
            await self.more()
        return self._ready.popleft()

    async def take(self, count: int) -> list[SseEvent]:
        """Return the next ``count`` events."""
        return [await self.next() for _ in range(count)]

    async def more(self) -> None:
        """Read once; the data may complete no event."""
        some = await self._client.read()
        assert some is not None, "the stream has ended"
        self._ready += some

    async def primed(self) -> str:
        """Wait for the first id, which is the position at which the stream begins; return it."""
        while not self.parser.first_id:
            await self.more()
        return self.parser.first_id

    async def beaten(self, times: int = 1) -> list[str]:
        """Wait for ``times`` comments, and assert that no unread event came before them."""
        while len(self.parser.comments) < times:
            await self.more()
        assert not self._ready
        return self.parser.comments

    async def until(self, *wanted: tuple[str, str]) -> list[SseEvent]:
        """Read until each pair of event name and execution has occurred; return all events."""
        events: list[SseEvent] = []
        missing = set(wanted)
        while missing:
            event = await self.next()
            events.append(event)
            missing.discard((event.type, event.json().get("executionId", "")))
        return events


class TenantClient(NamedTuple):
    """A tenant, on API replicas that share only NATS.

    Attributes:
        tenant: the id of the tenant.
        ports: the ports of the replicas.
        http: an HTTP client of the tenant, on the first replica.
    """

    tenant: str
    ports: Sequence[int]
    http: httpx.AsyncClient

    def stream(self, path: str, last_event_id: str = "", replica: int = 0) -> StreamReader:
        """Return a connection to a stream."""
        headers = {"x-organization-id": self.tenant}
        port = self.ports[replica]
        return StreamReader(SseClient(port, path, last_event_id=last_event_id, headers=headers))

    async def store(self, workflow: str, nodes: dict[str, Any], **fields: Any) -> None:
        """Store a workflow."""
        body = {"nodes": nodes, **fields}
        answer = await self.http.put(f"/api/v1/workflows/{workflow}", json=body)
        assert answer.is_success, answer.text

    async def post(self, path: str, **body: Any) -> Any:
        """Send a POST request; return the response body."""
        answer = await self.http.post(path, json=body)
        assert answer.is_success, answer.text
        return answer.json()

    async def execute(self, workflow: str, run_input: Any = None) -> str:
        """Start a run; return its execution id."""
        started = await self.post("/api/workflow/execute", workflowId=workflow, input=run_input)
        execution: str = started["executionId"]
        return execution

    async def ended(self, execution: str) -> None:
        """Wait until an execution has ended."""
        path = f"/api/v1/sse/executions/{execution}/stream"
        headers = {"x-organization-id": self.tenant}
        async with SseClient(self.ports[0], path, headers=headers) as stream:
            await stream.all()


def logged_events(events: Sequence[SseEvent]) -> list[tuple[str, str, Any]]:
    """Return the id, name and data of each event that has its own id."""
    return [(event.id, event.type, event.json()) for event in events if event.is_logged]
