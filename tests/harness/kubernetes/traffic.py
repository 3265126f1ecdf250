"""Runs and clients that follow them while an installation changes, and what the clients saw.

Runs start at a fixed rate. Each is followed by several clients, which reconnect as browsers do:
after the delay that the server gave, with their last event id.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Self
from uuid import uuid4

import httpx

from harness.sse.client import SseClient, SseEvent

WORKFLOW: Final = "traffic"
NODES: Final[dict[str, Any]] = {
    "first": {"type": "transform", "with": {"value": "${input.n}"}},
    **{
        name: {"type": "delay", "needs": [before], "with": {"duration": "4s"}}
        for before, name in [("first", "a"), ("a", "b"), ("b", "c"), ("c", "d"), ("d", "e")]
    },
    **{
        f"after-{name}": {"type": "transform", "needs": [name], "with": {"value": name}}
        for name in "abcde"
    },
}
"""A run takes twenty seconds, more than a pod that ends gives to its streams."""

_ENDS: Final = {"execution:completed", "execution:failed", "execution:cancelled"}
_LIVE: Final = {None, "pending", "queued", "running", "waiting", "paused"}
_PATIENCE_S: Final = 300.0
_DEFAULT_RETRY_MS: Final = 1000
_START_PAUSE_S: Final = 0.2


class Row(NamedTuple):
    """The observations of all clients in one phase.

    Attributes:
        cuts: streams that ended before their run, as HTTP requires (``ended``) or not (``torn``).
        repeated: starts whose first request got no answer on a connection that was kept open. HTTP
            lets a server close it at any time, so clients repeat the request with the same key.
        refused: starts that were not accepted at the first request for another reason.
        turned_away: requests for streams that got none, and were repeated.
        gaps: seconds without a stream, from its end, or a refused request, to the next response.
        missing: events of the log that a client did not receive.
        twice: events that a client received again.
    """

    phase: str
    clients: int
    executions: int
    events: int
    ended: int
    torn: int
    repeated: int
    refused: int
    turned_away: int
    missing: int
    twice: int
    gaps: Sequence[float]

    def gap(self, quantile: float) -> float:
        """Return a quantile of the gaps, in seconds; 0 without any."""
        ordered = sorted(self.gaps)
        return ordered[min(len(ordered) - 1, int(len(ordered) * quantile))] if ordered else 0.0

    @property
    def is_undisturbed(self) -> bool:
        """Whether clients saw a planned change: no error, and no long silence."""
        return self.torn == 0 and self.refused == 0 and self.gap(0.99) < LONGEST_GAP_S

    def markdown(self) -> str:
        """Return the row of the table in docs/operations.md."""
        quantiles = " / ".join(f"{self.gap(each):.2f}" for each in (0.5, 0.99, 1.0))
        cells = (
            self.phase,
            self.clients,
            self.executions,
            f"{self.events:,}",
            f"{self.ended} + {self.torn}",
            f"{self.repeated + self.refused} + {self.turned_away}",
            quantiles if self.gaps else "none",
            f"{self.missing} / {self.twice}",
        )
        return f"| {' | '.join(map(str, cells))} |"


LONGEST_GAP_S: Final = 10.0
"""The 99th percentile of the gaps in a planned change; 2 s on a machine that is not busy."""

HEAD: Final = (
    "| during | clients | runs | events | streams ended + torn | starts + streams repeated "
    "| gap p50 / p99 / max (s) | missing / twice |\n|---|---|---|---|---|---|---|---|"
)


@dataclass(slots=True)
class _Follower:
    """One client of one run."""

    execution: str
    ids: list[str] = field(default_factory=list)
    cuts: Counter[str] = field(default_factory=Counter)
    turned_away: Counter[str] = field(default_factory=Counter)
    gaps: list[float] = field(default_factory=list)
    has_ended: bool = False
    last_id: str = ""
    _lost_at: float | None = None
    _is_served: bool = False
    _refusal: str = ""

    async def follow(self, host: str, port: int, *, allows_empty_blocks: bool) -> None:
        """Receive the stream until the run has ended."""
        path = f"/api/v1/sse/executions/{self.execution}/stream"
        while True:
            stream = SseClient(port, path, last_event_id=self.last_id, host=host)
            stream.parser.allows_empty_blocks = allows_empty_blocks
            self._is_served, self._refusal = False, ""
            opened_at = await self._receive(stream)
            if self._is_served and opened_at is not None and self._lost_at is not None:
                self.gaps.append(opened_at - self._lost_at)
                self._lost_at = None
            if self.has_ended:
                return
            if self._is_served:
                self.cuts["ended" if stream.is_complete else "torn"] += 1
            else:
                self.turned_away[self._refusal or f"status {stream.status}"] += 1
            if self._lost_at is None:
                self._lost_at = time.monotonic()
            retry_ms = stream.parser.retry
            await asyncio.sleep((_DEFAULT_RETRY_MS if retry_ms is None else retry_ms) / 1000)

    async def _receive(self, stream: SseClient) -> float | None:
        """Receive one response; return when it began, None if it did not."""
        opened_at: float | None = None
        with contextlib.suppress(OSError):
            async with stream:
                while not stream.is_complete and not self.has_ended:
                    events = await stream.read()
                    if events is None:
                        break
                    if opened_at is None and stream.status == 200:
                        opened_at = time.monotonic()
                    self._take(events)
                    self.last_id = stream.parser.last_event_id or self.last_id
        return opened_at

    def _take(self, events: list[SseEvent]) -> None:
        for event in events:
            if event.type == "stream:refused":
                self._refusal = str(event.json()["reason"])
                continue
            self._is_served = True
            if event.is_logged:
                self.ids.append(event.id)
                self.has_ended |= event.type in _ENDS


class Traffic:
    """Runs and followers in one phase.

    Args:
        host: the address of the API.
        port: its port.
        runs_per_second: how often a run starts.
        followers: clients of each run.
        has_previous_release: whether version 0.2 serves some of them.
    """

    def __init__(
        self,
        host: str,
        port: int = 80,
        runs_per_second: float = 5.0,
        followers: int = 2,
        *,
        has_previous_release: bool = False,
    ) -> None:
        self._host, self._port = host, port
        self._interval_s = 1 / runs_per_second
        self._followers_per_run = followers
        self._allows_empty_blocks = has_previous_release
        self._http = httpx.AsyncClient(
            base_url=f"http://{host}:{port}", trust_env=False, timeout=60
        )
        self._followers: list[_Follower] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._repeated = self._refused = 0
        self._most_clients = 0
        self._starter: asyncio.Task[None] | None = None
        self.executions: list[str] = []
        self.refusals: Counter[str] = Counter()

    async def __aenter__(self) -> Self:
        answer = await self._http.put(
            f"/api/v1/workflows/{WORKFLOW}", json={"id": WORKFLOW, "nodes": NODES}
        )
        assert answer.is_success, answer.text
        self._starter = asyncio.create_task(self._start_runs())
        await self._until_first_runs_end()
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in [*self._tasks, *([self._starter] if self._starter else [])]:
            task.cancel()
        await self._http.aclose()

    async def _until_first_runs_end(self) -> None:
        """Wait until as many runs end as begin."""
        async with asyncio.timeout(_PATIENCE_S):
            while not any(each.has_ended for each in self._followers):
                await asyncio.sleep(0.1)
                self._raise_errors()

    async def finish(self, phase: str) -> Row:
        """Start no more runs, wait until all have ended, and compare with their logs.

        Raises:
            AssertionError: a run did not complete.
        """
        assert self._starter is not None
        self._starter.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._starter
        async with asyncio.timeout(_PATIENCE_S):
            await asyncio.gather(*self._tasks)
        logs = {execution: await self._log(execution) for execution in self.executions}
        missing = twice = 0
        for each in self._followers:
            received = Counter(each.ids)
            missing += len(set(logs[each.execution]) - set(received))
            twice += received.total() - len(received)
            assert list(dict.fromkeys(each.ids)) == [
                one for one in logs[each.execution] if one in received
            ], f"{each.execution}: not in the order of the log"
        cuts = sum((each.cuts for each in self._followers), Counter[str]())
        turned_away = sum((each.turned_away for each in self._followers), Counter[str]())
        self.refusals += turned_away
        return Row(
            phase=phase,
            clients=self._most_clients,
            executions=len(self.executions),
            events=sum(len(each.ids) for each in self._followers),
            ended=cuts["ended"],
            torn=cuts["torn"],
            repeated=self._repeated,
            refused=self._refused,
            turned_away=turned_away.total(),
            missing=missing,
            twice=twice,
            gaps=[gap for each in self._followers for gap in each.gaps],
        )

    async def _start_runs(self) -> None:
        next_at = time.monotonic()
        while True:
            await asyncio.sleep(max(0.0, next_at - time.monotonic()))
            next_at += self._interval_s
            self._spawn(self._run())

    async def _run(self) -> None:
        execution = await self._start()
        self.executions.append(execution)
        for _ in range(self._followers_per_run):
            follower = _Follower(execution)
            self._followers.append(follower)
            self._spawn(
                follower.follow(
                    self._host, self._port, allows_empty_blocks=self._allows_empty_blocks
                )
            )
        open_ = sum(not each.has_ended for each in self._followers)
        self._most_clients = max(self._most_clients, open_)

    async def _start(self) -> str:
        """Start a run; repeat the request with the same key until it is accepted."""
        key, is_repeated, is_refused = uuid4().hex, False, False
        while True:
            try:
                answer = await self._http.post(
                    f"/api/v1/workflows/{WORKFLOW}/runs",
                    json={"input": {"n": 1}},
                    headers={"Idempotency-Key": key},
                )
                if answer.status_code == 202:
                    self._refused += is_refused
                    self._repeated += is_repeated and not is_refused
                    return str(answer.json()["execution_id"])
                assert answer.status_code in (429, 502, 503, 504), answer.text
                self.refusals[str(answer.status_code)] += 1
                is_refused = True
            except (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError) as error:
                self.refusals[type(error).__name__] += 1
                is_repeated = True
            except httpx.TransportError as error:
                self.refusals[type(error).__name__] += 1
                is_refused = True
            await asyncio.sleep(_START_PAUSE_S)

    async def _log(self, execution: str) -> list[str]:
        """Return the ids of the events of a run, once the server that answers has its end."""
        path = f"/api/v1/workflows/{WORKFLOW}/runs/{execution}"
        async with asyncio.timeout(_PATIENCE_S):
            while True:
                answer = await self._http.get(path, params={"include_logs": "true"})
                document: dict[str, Any] = answer.json() if answer.is_success else {}
                if document.get("status") not in _LIVE:
                    break
                await asyncio.sleep(0.1)
        assert document["status"] == "completed", document
        return [each["id"] for each in document["logs"]]

    def _spawn(self, work: Any) -> None:
        self._tasks.add(asyncio.create_task(work))

    def _raise_errors(self) -> None:
        for task in self._tasks:
            if task.done() and not task.cancelled() and (error := task.exception()):
                raise error
