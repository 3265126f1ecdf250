"""What a delivered event costs the server, and what a connection does, beside others.

Every server gets a fresh process; clients are in another, which counts and parses nothing. CPU is
user and system time of the process that serves, over the events that arrived; memory is what is
resident before and after the clients connected, without what the kernel holds for sockets. In a
trickle an event is published every 2 ms; in a burst all are at once. nchan takes part if nginx and
its module are installed (Debian: ``nginx libnginx-mod-nchan``).
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import uvloop

from benchmarks.audience import Audience, audience, event
from benchmarks.stream_servers import PEERS, SERVERS, StreamServer, absent
from benchmarks.table import Row, print_rows
from harness.processes.open_files import allow_open_files
from harness.processes.process_usage import cpu_seconds, memory_bytes

_PAUSE: Final = 0.002
_WARM_UP: Final = 20
_COST: Final = "µs of CPU per event"
_MEMORY: Final = "KB per connection"

Figures = dict[str, float]


async def measure(name: str, clients: int, deliveries: int) -> Figures:
    """Return one server's figures with so many clients."""
    with tempfile.TemporaryDirectory() as folder:
        async with SERVERS[name](Path(folder)) as server, audience(server) as readers:
            memory = await _connect(server, readers, clients)
            events = deliveries // clients
            return {
                _MEMORY: memory,
                **await _deliver(server, readers, clients, events, pause=_PAUSE),
                **await _deliver(server, readers, clients, events, pause=0),
            }


async def _connect(server: StreamServer, readers: Audience, clients: int) -> float:
    # What the first clients cost is not theirs: code is loaded, pools are filled.
    await readers.connect(_WARM_UP)
    before = memory_bytes(server.pid)
    await readers.connect(clients - _WARM_UP)
    return round((memory_bytes(server.pid) - before) / (clients - _WARM_UP) / 1000, 1)


async def _deliver(
    server: StreamServer, readers: Audience, clients: int, events: int, *, pause: float
) -> Figures:
    before = cpu_seconds(server.pid)
    taking = asyncio.create_task(readers.take(clients * events))
    await _publish(server, events, pause)
    taken = await taking
    spent = cpu_seconds(server.pid) - before
    mode = "trickle" if pause else "burst"
    return {
        f"{mode}: {_COST}": round(spent / taken.marks * 1e6, 2),
        f"{mode}: delivered of {clients * events}": taken.marks,
        f"{mode}: seconds": round(taken.seconds, 2),
        f"{mode}: readers' CPU, µs per event": round(taken.cpu / taken.marks * 1e6, 2),
    }


async def _publish(server: StreamServer, events: int, pause: float) -> None:
    if not pause:
        await server.publish([event() for _ in range(events)])
        return
    began = time.monotonic()
    for number in range(events):
        await asyncio.sleep(began + number * pause - time.monotonic())
        await server.publish([event()])


async def run(
    servers: Sequence[str], sizes: Sequence[int], deliveries: int, rounds: int
) -> list[Row]:
    """Return the figures of some servers: the median of several rounds, taken in turns."""
    rows: list[Row] = []
    present = [name for name in servers if not absent(name)]
    for clients in sizes:
        taken: dict[str, list[Figures]] = {name: [] for name in servers}
        for _ in range(rounds):
            for name in present:
                taken[name].append(await measure(name, clients, deliveries))
        rows += [_row(f"{clients} clients, {what}", what, taken) for what in taken["tailrace"][0]]
    return rows


def _row(title: str, what: str, taken: dict[str, list[Figures]]) -> Row:
    values = {
        name: statistics.median(figures[what] for figures in rounds) if rounds else None
        for name, rounds in taken.items()
    }
    row: Row = {"what": title}
    row |= {name: "absent" if value is None else value for name, value in values.items()}
    own = values["tailrace"]
    for peer in list(values)[1:]:
        other = values[peer]
        is_cost = what.endswith((_COST, _MEMORY))
        row[f"to {peer}"] = round(own / other, 2) if is_cost and own and other else "-"
    return row


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--beside", nargs="*", choices=PEERS, default=PEERS, help="other servers")
    parser.add_argument("--clients", type=int, nargs="+", default=[1000, 5000])
    parser.add_argument(
        "--deliveries", type=int, default=200_000, help="events x clients of each measurement"
    )
    parser.add_argument("--rounds", type=int, default=1, help="rounds to take the median of")
    arguments = parser.parse_args()
    allow_open_files(2 * max(arguments.clients) + 500)
    servers = ["tailrace", *arguments.beside]
    rows = uvloop.run(run(servers, arguments.clients, arguments.deliveries, arguments.rounds))
    print_rows(rows, as_json=arguments.json)


if __name__ == "__main__":
    main()
