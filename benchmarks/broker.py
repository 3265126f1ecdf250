"""Compare the NATS broker with Dramatiq's own brokers on the same machine.

Each broker is measured in turn, with a fresh server on loopback and in a fresh process, with the
same encoder, the same no-op actor and Dramatiq's worker. Redis and RabbitMQ take part if their
servers are installed (Debian: ``redis-server``, ``rabbitmq-server``); ``uv run --with`` fetches
their clients. NATS and RabbitMQ write to disk, Redis does not.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import dramatiq
from dramatiq import Broker, Worker

from benchmarks.table import Row, print_rows, spread
from harness.nats.server import NatsServer
from harness.processes.ports import free_port
from tailrace_worker.broker import MsgspecEncoder, NatsBroker

THREADS: Final = 8
_ONE_BY_ONE: Final = 2_000
_LATENCY_SAMPLES: Final = 300
_LATENCY_PAUSE_S: Final = 0.01
_CLIENTS: Final = {"redis": "redis", "rabbitmq": "pika"}


@contextmanager
def nats(folder: Path) -> Iterator[str]:
    """Run NATS."""
    with NatsServer(folder) as server:
        yield server.url


@contextmanager
def redis(folder: Path) -> Iterator[str]:
    """Run Redis, in memory only."""
    port = str(free_port())
    command = ["redis-server", "--port", port, "--save", "", "--dir", str(folder)]
    with _server(command, {}, "Ready to accept connections"):
        yield f"redis://127.0.0.1:{port}"


@contextmanager
def rabbitmq(folder: Path) -> Iterator[str]:
    """Run RabbitMQ with its own files and its own name server (epmd)."""
    port, epmd = str(free_port()), str(free_port())
    settings = {
        "HOME": str(folder),
        "ERL_EPMD_PORT": epmd,
        "RABBITMQ_NODENAME": "bench@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": port,
        "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_MNESIA_BASE": str(folder),
        "RABBITMQ_LOG_BASE": str(folder),
        "RABBITMQ_LOGS": "-",
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
    }
    # Debian's wrapper would switch to a user that may not write here.
    try:
        with _server(["/usr/lib/rabbitmq/bin/rabbitmq-server"], settings, "startup complete"):
            yield f"amqp://guest:guest@127.0.0.1:{port}"
    finally:
        if (stop := shutil.which("epmd")) is not None:
            subprocess.run([stop, "-port", epmd, "-kill"], check=False, capture_output=True)


@contextmanager
def _server(command: list[str], settings: dict[str, str], ready: str) -> Iterator[None]:
    process = subprocess.Popen(
        command,
        env={**os.environ, **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    try:
        if not any(ready in line for line in process.stdout):
            raise RuntimeError(f"{command[0]} did not start")
        yield
    finally:
        process.terminate()
        process.communicate(timeout=30)


SERVERS: Final = {"nats": nats, "redis": redis, "rabbitmq": rabbitmq}


def connect(name: str, url: str) -> Broker:
    """Return the broker for a server: one of Dramatiq's, or ours."""
    if name == "redis":
        from dramatiq.brokers.redis import RedisBroker  # noqa: PLC0415 - may not be installed

        return RedisBroker(url=url)
    if name == "rabbitmq":
        from dramatiq.brokers.rabbitmq import RabbitmqBroker  # noqa: PLC0415 - may not be installed

        # Without confirmation an enqueued message may be lost.
        return RabbitmqBroker(url=url, confirm_delivery=True)
    return NatsBroker(url)


def measure(name: str, url: str, messages: int) -> dict[str, float | None]:
    """Measure one broker."""
    dramatiq.set_encoder(MsgspecEncoder())
    broker = connect(name, url)
    dramatiq.set_broker(broker)
    ran: list[float] = []
    done = threading.Event()

    @dramatiq.actor
    def work(sent: float, last: int) -> None:
        ran.append(time.perf_counter() - sent)
        if len(ran) >= last:
            done.set()

    def send(last: int = messages) -> None:
        work.send(time.perf_counter(), last)

    send()  # connects
    one_by_one = _rate(_ONE_BY_ONE, lambda: _repeat(send, _ONE_BY_ONE))
    batch = [work.message(0.0, messages) for _ in range(messages - _ONE_BY_ONE - 1)]
    many = None
    if isinstance(broker, NatsBroker):
        many = _rate(len(batch), lambda: broker.enqueue_many(batch))
    else:
        for message in batch:
            broker.enqueue(message)
    worker = Worker(broker, worker_timeout=1000, worker_threads=THREADS)

    def consume() -> None:
        worker.start()
        done.wait()

    consumed = _rate(messages, consume)
    ran.clear()
    for count in range(1, _LATENCY_SAMPLES + 1):
        done.clear()
        send(count)
        done.wait()
        time.sleep(_LATENCY_PAUSE_S)
    latency = spread(ran)
    worker.stop()
    broker.close()
    return {
        "enqueue one by one, 1/s": one_by_one,
        "enqueue_many, 1/s": many,
        f"consume with {THREADS} threads, 1/s": consumed,
        "latency at rest, median ms": latency["median"],
        "latency at rest, p99 ms": latency["p99"],
    }


def _repeat(call: Callable[[], None], times: int) -> None:
    for _ in range(times):
        call()


def _rate(count: int, call: Callable[[], object]) -> float:
    before = time.perf_counter()
    call()
    return round(count / (time.perf_counter() - before))


def _measure_in_process(name: str, messages: int) -> dict[str, Any] | None:
    """Measure in a separate process; return None if the server or its client is not installed."""
    script = [__file__, "--measure", name, "--messages", str(messages)]
    command = [sys.executable, *script]
    if (client := _CLIENTS.get(name)) is not None:
        uv = shutil.which("uv")
        if shutil.which(f"{name}-server") is None or uv is None:
            return None
        command = [uv, "run", "--quiet", "--no-sync", "--with", client, "python", *script]
    ended = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    if ended.returncode != 0:
        return None
    figures: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return figures


def run(messages: int, rounds: int) -> list[Row]:
    """Measure all brokers in turns; return the medians of all rounds."""
    taken: dict[str, list[dict[str, Any]]] = {name: [] for name in SERVERS}
    for _ in range(rounds):
        for name in SERVERS:
            figures = _measure_in_process(name, messages)
            if figures is not None:
                taken[name].append(figures)
    rows: list[Row] = []
    for what in taken["nats"][0]:
        row: Row = {"what": what}
        for name, figures_of in taken.items():
            values = [figures[what] for figures in figures_of]
            has_none = not values or values[0] is None
            row[name] = (
                "not installed" if not values else "-" if has_none else statistics.median(values)
            )
        for name in _CLIENTS:
            has_both = isinstance(row[name], (int, float))
            row[f"to {name}"] = round(row["nats"] / row[name], 2) if has_both else "-"
        rows.append(row)
    return rows


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--messages", type=int, default=10_000, help="messages to consume")
    parser.add_argument(
        "--rounds", type=int, default=1, help="number of rounds; figures are medians"
    )
    parser.add_argument("--measure", choices=list(SERVERS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure is None:
        print_rows(run(arguments.messages, arguments.rounds), as_json=arguments.json)
        return
    with (
        tempfile.TemporaryDirectory() as folder,
        SERVERS[arguments.measure](Path(folder)) as url,
    ):
        figures = measure(arguments.measure, url, arguments.messages)
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
