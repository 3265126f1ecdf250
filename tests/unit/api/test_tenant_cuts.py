"""Thousands of seeded lifetimes of tenants' streams in memory: a client receives the log.

As in `test_hub_cuts`, for streams of all that a tenant runs: two tenants, two replicas, and
clients of every kind, which are cut anywhere and go on at another replica. The first thing that a
client gets is a snapshot; from there on it must get everything that its dialect shows, once and in
order, and its picture of the tenant must be the one that a fold of the whole log gives.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable
from typing import Any, Final

import msgspec
import pytest

from harness.fakes.faulty_hubs import TENANTS, FaultyTenants, Place, place, try_seeds
from harness.fakes.memory_client import MemoryClient
from harness.models.folded_tenant import FoldedTenant
from tailrace_api.dialects.context import Context
from tailrace_api.dialects.dialect import Dialect, LoggedEvent
from tailrace_api.dialects.paused_workflows import PAUSED_WORKFLOWS
from tailrace_api.dialects.pipeline_status import Pipelines
from tailrace_api.dialects.tenant_feed import TENANT_FEED
from tailrace_api.fanout.views.view import View
from tailrace_shared.errors import UnavailableError
from tailrace_shared.execution.commits import encode_commits, split_commit
from tailrace_shared.subjects import LogFilter

_SEEDS: Final = 600
_PARTS: Final = 12
_BUSY_SEEDS: Final = 40
_BUSY_PARTS: Final = 4
WORKFLOWS: Final = ["a", "b", "c"]

Received = tuple[Place, str, Any]


class Picture:
    """The knowledge of a client, and the events that it must receive.

    Attributes:
        dialect: what it listens to.
        since: the place of its snapshot.
        received: the events since.
    """

    def __init__(self, dialect: Dialect, tenant: str) -> None:
        self.dialect = dialect
        self.tenant = tenant
        self.since: Place | None = None
        self.received: list[Received] = []
        self._waits: dict[tuple[str, str], str] = {}
        self._statuses: dict[str, str] = {}

    def take(self, client: MemoryClient) -> None:
        """Record the events of a connection."""
        for event in client.events:
            data = event.json()
            assert event.type != "stream:reset", event
            assert event.type != "error" or event.is_logged, event
            if event.is_logged:
                self.received.append((place(event.id), event.type, data))
            self._update(event.type, data, is_logged=event.is_logged)
        if self.since is None and client.parser.last_event_id:
            # The first id that a client gets is that of its snapshot.
            self.since = place(client.parser.first_id)

    def _update(self, name: str, data: Any, *, is_logged: bool) -> None:
        match name:
            case "paused.initial":
                self._waits = {
                    (each["executionId"], each["pausedAt"]): each["pausedTime"]
                    for each in data["pausedWorkflows"]
                }
            case "workflow.paused":
                self._waits[data["executionId"], data["pausedAt"]] = data["pausedTime"]
            case "workflow.resumed":
                del self._waits[data["executionId"], data["resumedFrom"]]
            case "workflow.cancelled":
                for key in [key for key in self._waits if key[0] == data["executionId"]]:
                    del self._waits[key]
            case "batch_update":
                self._statuses = {each["pipelineId"]: each["status"] for each in data["updates"]}
            case "status_update":
                known = self._statuses[data["pipelineId"]]
                assert data.get("previousStatus", known) == known
                assert data["status"] != known
                self._statuses[data["pipelineId"]] = data["status"]
            case _:
                assert is_logged or name in ("message", "heartbeat")

    def check(self, folded: FoldedTenant) -> None:
        """Compare it with what a fold of the log gives."""
        if self.dialect is PAUSED_WORKFLOWS:
            assert {(*key, since) for key, since in self._waits.items()} == folded.waits()
        if isinstance(self.dialect, Pipelines):
            named = self.dialect.pipelines
            assert self._statuses == {name: folded.pipeline(name) for name in named}


class World(FaultyTenants):
    """Two tenants, and the events that their clients must receive."""

    def expected(self, tenant: str, dialect: Dialect, since: Place) -> list[Received]:
        """Return what the log says after a place, in a dialect that is not cumulative."""
        expected = []
        for of, execution, sequence, events in self.log.commits:
            if of == tenant:
                workflow = self._workflow(execution)
                context = Context(execution, workflow, workflow.upper(), {"n": 1})
                (payload,) = encode_commits(events)
                for index, slice_ in enumerate(split_commit(payload)):
                    event = msgspec.json.decode(slice_, type=LoggedEvent)
                    for slot, block in enumerate(dialect.show(context, event, slice_)):
                        where = (sequence, dialect.first_index + index * dialect.stride + slot)
                        if block and where > since:
                            name = block.name or "message"
                            expected.append((where, name, msgspec.json.decode(block.data)))
        return expected

    def changes(self, tenant: str, pipelines: Pipelines, since: Place) -> list[tuple[Place, str]]:
        """Return every change of a pipeline's status after a place."""
        folded, found = FoldedTenant(), []
        for of, execution, sequence, events in self.log.commits:
            for index, event in enumerate(events) if of == tenant else ():
                name = self._workflow(execution)
                before = folded.pipeline(name)
                folded.take(execution, [event])
                where, after = (sequence, index), folded.pipeline(name)
                if name in pipelines.pipelines and after != before and where > since:
                    found.append((where, after))
        return found

    def _workflow(self, execution: str) -> str:
        return self.log.workflows[execution]

    def folded(self, tenant: str) -> FoldedTenant:
        """Return a tenant as its log says it is."""
        folded = FoldedTenant()
        for of, execution, _sequence, events in self.log.commits:
            if of == tenant:
                folded.take(execution, events)
        return folded

    def _is_done(self, picture: Picture) -> bool:
        if not self.is_written or picture.since is None:
            return False
        if isinstance(picture.dialect, Pipelines):
            wanted = self.changes(picture.tenant, picture.dialect, picture.since)
            got = [(place, data["status"]) for place, _, data in picture.received]
            assert got == wanted[: len(got)], (got, wanted)
            return len(got) == len(wanted)
        expected = self.expected(picture.tenant, picture.dialect, picture.since)
        assert picture.received == expected[: len(picture.received)]
        return len(picture.received) == len(expected)

    async def read(self, dialect: Dialect) -> None:
        """Run a client until it has received everything."""
        picture = Picture(dialect, self.dice.choice(TENANTS))
        last_event_id = ""
        await asyncio.sleep(self.dice.uniform(0, self.delay))
        while not self._is_done(picture):
            await asyncio.sleep(self.dice.uniform(0, self.pause))
            if not self.replicas:
                continue
            client = MemoryClient()
            with contextlib.suppress(UnavailableError):
                await self._connection(client, picture, last_event_id)
                if not last_event_id and not client.parser.last_event_id:
                    continue  # it was cut before it knew where it was, and begins anew
                picture.take(client)
                last_event_id = client.parser.last_event_id or last_event_id
        picture.check(self.folded(picture.tenant))

    async def _connection(self, client: MemoryClient, picture: Picture, last_event_id: str) -> None:
        if self.dice.random() < 0.3:
            client.takes_only(self.dice.randint(0, 5000))
        replica = self.dice.choice(self.replicas)
        view = View(picture.dialect, LogFilter(picture.tenant))
        connecting = asyncio.ensure_future(replica.follow(client, view, last_event_id))
        try:
            async with asyncio.timeout(self.lifetime()):
                await asyncio.shield(connecting)
                while not (client.ended.is_set() or client.is_cut):
                    await asyncio.sleep(0.05)
                    if self.dice.random() < 0.2:
                        client.resume()
        except TimeoutError:
            client.leave()
            await connecting

    async def run(self) -> None:
        """Let it all happen."""
        await self.store()
        await self.last(self.write(), [self.read(each) for each in _dialects(self.dice)])


def _dialects(dice: random.Random) -> list[Dialect]:
    named = frozenset(WORKFLOWS[: dice.randint(1, 3)])
    visible = dice.choice([None, frozenset({"a"}), frozenset[str]()])
    makers: list[Callable[[], Dialect]] = [
        lambda: PAUSED_WORKFLOWS,
        lambda: TENANT_FEED,
        lambda: Pipelines(named, visible),
    ]
    return [maker() for maker in makers]


@pytest.mark.timeout(300)  # it is all computing, and a machine may have much else to do
@pytest.mark.parametrize("part", range(_PARTS))
def test_every_client_receives_the_log(part: int) -> None:
    """Each event after its snapshot arrives once and in order; replicas release all memory."""
    seeds = range(part * _SEEDS // _PARTS, (part + 1) * _SEEDS // _PARTS)
    try_seeds(lambda seed: World(seed, WORKFLOWS).run(), seeds)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("part", range(_BUSY_PARTS))
def test_every_client_of_a_busy_tenant_receives_the_log(part: int) -> None:
    """Also if the streams of a replica begin and end while commits arrive."""
    seeds = range(part * _BUSY_SEEDS // _BUSY_PARTS, (part + 1) * _BUSY_SEEDS // _BUSY_PARTS)
    try_seeds(lambda seed: World(seed, WORKFLOWS, is_busy=True).run(), seeds)
