"""The kinds of faults of a cluster. Each is injected, lasts, and is healed when it returns."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from random import Random
from typing import Final

from nats.aio.client import Client

from harness.faults.cluster import FaultyCluster, FaultyNode
from harness.faults.network import Side
from harness.nats.backup import restore, take_backups
from harness.processes.installation import Installation
from harness.processes.service import Service
from tailrace_shared.errors import JetStreamError, UnavailableError
from tailrace_shared.nats.jetstream import JetStream
from tailrace_shared.nats.topology import EVENTS

_AFTER_NOTICE_S: Final = 4.0
"""How much longer an outage lasts than the time within which services must notice."""
_LEADERS: Final = 3


class Arena:
    """A cluster with services on it, where faults happen.

    Args:
        cluster: the servers.
        site: the installation.
        services: all services by name.
        source: the source of randomness.
        notice: the seconds within which services must notice that nothing can be stored.

    Attributes:
        outage_seconds: how long nothing can be stored.
        outages: the times in which nothing could be stored (monotonic).
    """

    def __init__(
        self,
        cluster: FaultyCluster,
        site: Installation,
        services: Mapping[str, Service],
        source: Random,
        notice: float,
    ) -> None:
        self.cluster = cluster
        self.site = site
        self.services = services
        self.source = source
        self.outage_seconds = notice + _AFTER_NOTICE_S
        self.outages: list[tuple[float, float]] = []

    @property
    def client(self) -> Client:
        """A connection of the campaign's own."""
        return self.site.jetstream.client

    async def leader(self) -> FaultyNode:
        """Return the node that leads the log."""
        stream = self.site.subjects.stream(EVENTS)
        while True:
            # There is none during an election.
            with contextlib.suppress(JetStreamError, UnavailableError):
                info = await self.site.jetstream.api(f"STREAM.INFO.{stream}")
                if name := info["cluster"].get("leader"):
                    return self.cluster.node(name)
            await asyncio.sleep(0.1)

    def any_node(self) -> FaultyNode:
        """Return one of the nodes."""
        return self.source.choice(self.cluster.nodes)

    async def lasts(self) -> None:
        """Let a fault last, for longer than an election and up to several heartbeats."""
        await asyncio.sleep(self.source.uniform(4.5, 9))

    @contextlib.asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        """Note the time of the block as one in which nothing can be stored."""
        began = time.monotonic()
        yield
        self.outages.append((began, time.monotonic()))

    async def start_nodes(self) -> None:
        """Start all nodes that do not run or have given up, and wait until all are healthy."""
        await asyncio.to_thread(self.cluster.start)


async def healthy(arena: Arena) -> None:
    """Inject nothing."""
    await arena.lasts()


async def partition_node(arena: Arena) -> None:
    """Separate a node from the others and from all clients."""
    node = arena.any_node()
    node.cut()
    await arena.lasts()
    node.heal()


async def partition_leader(arena: Arena) -> None:
    """Separate the leader from the others, but not from clients: a stale leader answers."""
    leader = await arena.leader()
    leader.cut(Side.PEERS)
    await arena.lasts()
    leader.heal()


async def partition_all(arena: Arena) -> None:
    """Separate all nodes from each other: no majority is left."""
    async with arena.outage():
        for node in arena.cluster.nodes:
            node.cut(Side.PEERS)
        await asyncio.sleep(arena.outage_seconds)
    for node in arena.cluster.nodes:
        node.heal()


async def cut_clients(arena: Arena) -> None:
    """Separate clients from one node, whose peers still reach it."""
    leader = await arena.leader()
    leader.cut(Side.CLIENTS)
    await arena.lasts()
    leader.heal()


async def kill_leaders(arena: Arena) -> None:
    """Kill the leader of the log and restart it, several times."""
    for _ in range(_LEADERS):
        leader = await arena.leader()
        leader.kill()
        await asyncio.sleep(arena.source.uniform(0.5, 3))
        await arena.start_nodes()


async def freeze_leader(arena: Arena) -> None:
    """Freeze the leader of the log with SIGSTOP; its connections stay open."""
    leader = await arena.leader()
    leader.freeze()
    await asyncio.sleep(arena.outage_seconds)
    leader.thaw()


async def fill_disk(arena: Arena) -> None:
    """Fill the disk of the leader, free it, and restart the server if it has given up."""
    leader = await arena.leader()
    leader.disk.fill()
    await arena.lasts()
    leader.disk.free()
    await arena.start_nodes()


async def fill_disks(arena: Arena) -> None:
    """Fill all disks until all servers have given up, free the disks and restart the servers."""
    for node in arena.cluster.nodes:
        node.disk.fill()
    await asyncio.to_thread(arena.cluster.until_given_up)
    async with arena.outage():
        await asyncio.sleep(arena.outage_seconds)
    for node in arena.cluster.nodes:
        node.disk.free()
    await arena.start_nodes()


async def read_only_disk(arena: Arena) -> None:
    """Make the disk of the leader read-only, then writable, and restart it if it has given up."""
    leader = await arena.leader()
    leader.disk.make_read_only()
    await arena.lasts()
    leader.disk.make_writable()
    await arena.start_nodes()


async def lose_data(arena: Arena) -> None:
    """Kill a node, lose its data directory, and start it empty."""
    node = arena.any_node()
    node.kill()
    node.disk.wipe()
    await asyncio.sleep(arena.source.uniform(0, 2))
    await arena.start_nodes()


async def kill_all(arena: Arena) -> None:
    """Kill all nodes at once, and start them after a while."""
    async with arena.outage():
        arena.cluster.kill()
        await asyncio.sleep(arena.outage_seconds)
    await arena.start_nodes()


async def restore_backup(arena: Arena) -> None:
    """Back up all streams, lose all data, and restore the backup into a new cluster.

    Services are stopped meanwhile, as the runbook requires, and started after.
    """
    for service in arena.services.values():
        await asyncio.to_thread(service.stop)
    jetstream = JetStream(arena.client)
    backups = await take_backups(jetstream)
    arena.cluster.kill()
    for node in arena.cluster.nodes:
        node.disk.wipe()
    await arena.start_nodes()
    while not arena.client.is_connected:  # noqa: ASYNC110 - nats-py has no event for it
        await asyncio.sleep(0.05)
    for backup in backups:
        await restore(jetstream, backup)
    await asyncio.gather(*(asyncio.to_thread(service.start) for service in arena.services.values()))


Fault = Callable[[Arena], Awaitable[None]]

KINDS: Final[Mapping[str, Fault]] = {
    kind.__name__.replace("_", "-"): kind
    for kind in (
        healthy,
        partition_node,
        partition_leader,
        partition_all,
        cut_clients,
        kill_leaders,
        freeze_leader,
        fill_disk,
        fill_disks,
        read_only_disk,
        lose_data,
        kill_all,
        restore_backup,
    )
}
