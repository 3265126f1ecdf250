"""Measure the delay of an event from publishing to each of a thousand clients.

The delay begins just before one process publishes the event and ends when the kernel has its bytes
for a client in another process. At this rate no two events share a write, so the CPU time of an
event includes a whole write. The servers are those of ``fanout``.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import uvloop

from benchmarks.stream_readers import event, stream_readers
from benchmarks.stream_servers import PEERS, SERVERS, is_missing
from benchmarks.table import Row, print_rows, spread
from harness.processes.open_files import allow_open_files
from harness.processes.process_usage import cpu_seconds


async def measure(name: str, clients: int, events: int, rate: float) -> Row:
    """Measure one server."""
    with tempfile.TemporaryDirectory() as folder:
        async with (
            SERVERS[name](Path(folder)) as server,
            stream_readers(server, timing=True) as readers,
        ):
            await readers.connect(clients)
            cpu = cpu_seconds(server.pid)
            taking = asyncio.create_task(readers.take(clients * events))
            began = time.monotonic()
            for number in range(events):
                await asyncio.sleep(began + number / rate - time.monotonic())
                await server.publish([event()])
            taken = await taking
            cpu = cpu_seconds(server.pid) - cpu
    return {
        "what": f"{name}, {clients} clients, {rate:g} events/s",
        "unit": "ms",
        **spread(taken.delays),
        "max": round(max(taken.delays) * 1e3, 2),
        "µs of CPU per event": round(cpu / taken.marks * 1e6, 2),
        "delivered": f"{taken.marks} of {clients * events}",
    }


async def run(servers: Sequence[str], clients: int, events: int, rate: float) -> list[Row]:
    """Measure all installed servers, and add a row for each that is not installed."""
    rows = [await measure(name, clients, events, rate) for name in servers if not is_missing(name)]
    missing = [{"what": f"{name}, not installed"} for name in servers if is_missing(name)]
    return rows + [{**dict.fromkeys(rows[0], "-"), **row} for row in missing]


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--beside", nargs="*", choices=PEERS, default=PEERS, help="servers to compare with"
    )
    parser.add_argument("--clients", type=int, default=1000, help="number of clients")
    parser.add_argument("--events", type=int, default=200, help="number of events")
    parser.add_argument("--rate", type=float, default=20, help="events per second")
    arguments = parser.parse_args()
    allow_open_files(2 * arguments.clients + 500)
    servers = ["tailrace", *arguments.beside]
    rows = uvloop.run(run(servers, arguments.clients, arguments.events, arguments.rate))
    print_rows(rows, as_json=arguments.json)


if __name__ == "__main__":
    main()
