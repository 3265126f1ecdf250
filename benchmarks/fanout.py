"""Compare servers by the CPU time of a delivered event and the memory of a connection.

Each server runs in a fresh process; all clients share another process, which only counts events.
CPU is the user and system time of the server process, divided by the events that arrived. Memory is
the growth of its resident memory while clients connect, without the kernel's socket buffers. A
trickle publishes an event every 2 ms, a burst publishes all events at once. nchan takes part if
nginx and its module are installed (Debian: ``nginx libnginx-mod-nchan``), Mercure and Centrifugo if
Go is: they are built once, which takes minutes.
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

from benchmarks.stream_readers import StreamReaders, event, stream_readers
from benchmarks.stream_servers import PEERS, SERVERS, StreamServer, is_missing
from benchmarks.table import Row, print_rows
from harness.processes.open_files import allow_open_files
from harness.processes.process_usage import cpu_seconds, memory_bytes

_PAUSE_S: Final = 0.002
_WARM_UP: Final = 20
_COST: Final = "µs of CPU per event"
_MEMORY: Final = "KB per connection"

Figures = dict[str, float]


async def measure(name: str, clients: int, deliveries: int) -> Figures:
    """Measure one server with ``clients`` clients."""
    with tempfile.TemporaryDirectory() as folder:
        async with SERVERS[name](Path(folder)) as server, stream_readers(server) as readers:
            memory = await _connect(server, readers, clients)
            events = deliveries // clients
            return {
                _MEMORY: memory,
                **await _deliver(server, readers, clients, events, pause=_PAUSE_S),
                **await _deliver(server, readers, clients, events, pause=0),
            }


async def _connect(server: StreamServer, readers: StreamReaders, clients: int) -> float:
    # The first clients also pay for loaded code and filled pools, so they do not count.
    await readers.connect(_WARM_UP)
    before = memory_bytes(server.pid)
    await readers.connect(clients - _WARM_UP)
    return round((memory_bytes(server.pid) - before) / (clients - _WARM_UP) / 1000, 1)


async def _deliver(
    server: StreamServer, readers: StreamReaders, clients: int, events: int, *, pause: float
) -> Figures:
    before = cpu_seconds(server.pid)
    taking = asyncio.create_task(readers.take(clients * events))
    await publish(server, events, pause)
    taken = await taking
    spent = cpu_seconds(server.pid) - before
    mode = "trickle" if pause else "burst"
    return {
        f"{mode}: {_COST}": round(spent / taken.marks * 1e6, 2),
        f"{mode}: delivered of {clients * events}": taken.marks,
        f"{mode}: seconds": round(taken.seconds, 2),
        f"{mode}: readers' CPU, µs per event": round(taken.cpu / taken.marks * 1e6, 2),
    }


async def publish(server: StreamServer, events: int, pause: float) -> None:
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
    """Measure servers in turns; return the medians of all rounds."""
    rows: list[Row] = []
    present = [name for name in servers if not is_missing(name)]
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
    row |= {name: "not installed" if value is None else value for name, value in values.items()}
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
    parser.add_argument(
        "--beside", nargs="*", choices=PEERS, default=PEERS, help="servers to compare with"
    )
    parser.add_argument(
        "--clients", type=int, nargs="+", default=[1000, 5000], help="numbers of clients"
    )
    parser.add_argument(
        "--deliveries", type=int, default=200_000, help="events times clients in each measurement"
    )
    parser.add_argument(
        "--rounds", type=int, default=1, help="number of rounds; figures are medians"
    )
    arguments = parser.parse_args()
    if min(arguments.clients) <= _WARM_UP:
        parser.error(f"--clients: at least {_WARM_UP + 1}, the first {_WARM_UP} are a warm-up")
    allow_open_files(2 * max(arguments.clients) + 500)
    servers = ["tailrace", *arguments.beside]
    rows = uvloop.run(run(servers, arguments.clients, arguments.deliveries, arguments.rounds))
    print_rows(rows, as_json=arguments.json)


if __name__ == "__main__":
    main()
