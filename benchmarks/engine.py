"""Compare the engine with Restate and DBOS on the same machine.

All engines run the same chains of an async Python function that does nothing; each step is stored
before the next one starts. Each engine is measured with both kinds of durability, one of which is
its default: acknowledged steps survive a power failure, or only the crash of a process. Compare
figures of one kind only.

Latency is the time that a client sees from the request that starts a run to its end. ``--install``
fetches the other engines and the profiler that ``--profile`` needs.
"""

import argparse
import asyncio
import dataclasses
import json
import os
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import uvloop

from benchmarks import peers
from benchmarks.load import Engine, latency, sync_microseconds, throughput
from benchmarks.table import Row, print_rows
from benchmarks.tailrace_engine import EACH_STEP, NOTHING, Tailrace, chain, tailrace, wide
from benchmarks.trace_sink import trace_sink
from benchmarks.worker_profile import can_profile, record, summarize

_LENGTH: Final = 20
_LATENCY_LENGTHS: Final = (1, 40)
_PROFILE_SECONDS: Final = 8
_COMPARED: Final = f"Tailrace, {NOTHING}"
# The targets relative to Restate, and the figures that they apply to.
_AIMS: Final = {"steps/s": ("at least", 5.0), "ms": ("at most", 0.25)}
_AIMED_AT: Final = ("Restate", f"chain of {max(_LATENCY_LENGTHS)}")

_NO_AIM: Final = {"aim": "-", "reached": "-"}
_TABLES: Final = {
    "figures": "Figures",
    "ratios": "Ratios: ours to theirs",
    "cpu": "CPU time of each process, in microseconds per step",
    "growth": "Time per step in longer runs, one run at a time, including the start of the run",
    "threads": "Threads of the worker: shares of its samples, and of its CPU time without profiler",
    "areas": "Areas of the worker",
    "functions": "Functions of the worker: own time",
}

Report = dict[str, Any]


@asynccontextmanager
async def _running(
    name: str, options: argparse.Namespace, *, synced: bool, workers: int
) -> AsyncIterator[list[Engine]]:
    """Run one engine in a temporary folder; yields an empty list if it is not installed."""
    with tempfile.TemporaryDirectory(prefix="tailrace-bench-") as folder:
        path = Path(folder)
        if name == "Tailrace":
            site = tailrace(path, synced=synced, workers=workers, in_flight=options.executions)
            async with site as (own_commits, instant):
                yield [own_commits, instant]
            return
        peer = (
            peers.restate(path, synced=synced, workers=workers)
            if name == "Restate"
            else peers.dbos(path, synced=synced)
        )
        async with peer as engine:
            yield [engine] if engine is not None else []


async def _compare(options: argparse.Namespace) -> Report:
    """Measure all engines with both kinds of durability.

    Engines of one kind run together and are measured in turns, so that other load on the machine
    affects all of them. An idle engine uses almost no CPU time.
    """
    figures: list[Row] = []
    shares: list[Row] = []
    absent = set()
    for synced in (False, True):
        for workers in (1, 2):
            async with AsyncExitStack() as stack:
                engines: list[Engine] = []
                # SQLite has one writer at a time, so a second process would not make DBOS faster.
                for name in ("Tailrace", "Restate", "DBOS")[: 4 - workers]:
                    running = _running(name, options, synced=synced, workers=workers)
                    found = await stack.enter_async_context(running)
                    absent |= set() if found else {name}
                    engines += found
                for length in _LATENCY_LENGTHS if workers == 1 else ():
                    figures += await latency(engines, length, options.runs, options.rounds)
                rates, costs = await throughput(
                    engines, options.executions, _LENGTH, options.rounds, workers
                )
                figures += rates
                shares += costs
    figures.sort(key=lambda row: (row["unit"] != "steps/s", row["figure"], row["survives"]))
    return {
        "figures": figures,
        "ratios": ratios(figures + [_as_figure(row) for row in shares]),
        "cpu": shares,
        "absent": sorted(absent),
    }


def _as_figure(share: Row) -> Row:
    """Return the CPU time of all processes as a figure; other load hardly changes it."""
    value = {"unit": "CPU us/step", "median": share["all"], "best": share["all"]}
    return {key: share[key] for key in ("figure", "engine", "sync", "survives")} | value


def ratios(figures: list[Row]) -> list[Row]:
    """Compare our figures with those of the peers, for the same durability and for the defaults."""
    rows = []
    for ours in (row for row in figures if row["engine"] == _COMPARED):
        for other in figures:
            is_alike = other["survives"] == ours["survives"]
            both_default = "default" in other["sync"] and "default" in ours["sync"]
            is_same = (other["figure"], other["unit"]) == (ours["figure"], ours["unit"])
            if other["engine"].startswith("Tailrace") or not is_same or not other["median"]:
                continue
            if is_alike or both_default:
                ratio = round(ours["median"] / other["median"], 2)
                alike = (
                    f"both survive a {ours['survives']}"
                    if is_alike
                    else "each engine's default: unlike"
                )
                rows.append(
                    {
                        "figure": ours["figure"],
                        "unit": ours["unit"],
                        "durability": alike,
                        "Tailrace": ours["median"],
                        "beside": other["engine"],
                        "its": other["median"],
                        "ratio": ratio,
                        "of the best": round(ours["best"] / other["best"], 2),
                        # With another kind of durability the target does not count.
                        **(_aim(other, ratio) if is_alike else _NO_AIM),
                    }
                )
    return rows


def _aim(other: Row, ratio: float) -> Row:
    peer, chain_of_many = _AIMED_AT
    is_aimed_at = other["unit"] == "steps/s" or other["figure"].startswith(chain_of_many)
    if other["engine"] != peer or not is_aimed_at:
        return _NO_AIM
    word, aim = _AIMS[other["unit"]]
    reached = ratio >= aim if word == "at least" else ratio <= aim
    return {"aim": f"{word} {aim}", "reached": "yes" if reached else "no"}


async def _growth(options: argparse.Namespace) -> list[Row]:
    """Measure the time per step in runs of growing size, one run at a time."""
    rows: list[Row] = []
    async with _running("Tailrace", options, synced=False, workers=1) as engines:
        for engine in engines:
            assert isinstance(engine, Tailrace)
            for shape, nodes in (("chain", chain), ("wide", wide)):
                rows += [
                    await _cost(engine, shape, size, nodes(size, engine.node_type))
                    for size in options.nodes
                ]
    return rows


async def _cost(engine: Tailrace, shape: str, size: int, nodes: dict[str, Any]) -> Row:
    name = f"{shape}-{engine.node_type.replace('.', '-')}-{size}"
    workflow = await engine.store(name, nodes)
    if size <= 1000:
        await engine.burst_of(workflow, 1)
    rounds = max(1, min(20, 2000 // size))
    samples = [await engine.burst_of(workflow, 1) / size for _ in range(rounds)]
    return {
        "shape": shape if shape == "chain" else f"wide, a join of {size - 2}",
        "nodes": size,
        **engine.mode.columns,
        "us/step": round(statistics.median(samples) * 1e6, 1),
        "rounds": rounds,
    }


async def _profile(options: argparse.Namespace) -> Report:
    """Profile one worker under load, after one measurement without the profiler."""
    async with _running("Tailrace", options, synced=False, workers=1) as (engine, _):
        rates, (cost,) = await throughput([engine], options.executions, _LENGTH, options.rounds, 1)

        async def load() -> None:
            while True:
                await engine.burst(options.executions, _LENGTH)

        with tempfile.TemporaryDirectory() as folder:
            busy = asyncio.create_task(load())
            stacks = await record(engine.processes["worker"][0], _PROFILE_SECONDS, Path(folder))
            if busy.done():
                busy.result()
            busy.cancel()
            await asyncio.wait([busy])
    return {
        "figures": rates,
        "cpu": [cost],
        **summarize(stacks, cost["of which"].get("worker", 0)),
    }


async def _traces(options: argparse.Namespace) -> Report:
    """Measure one worker with traces and one without, in turns."""
    async with AsyncExitStack() as stack:
        engines: list[Engine] = []
        for name, endpoint in (("untraced", ""), ("traced", stack.enter_context(trace_sink()))):
            os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = endpoint
            running = _running("Tailrace", options, synced=False, workers=1)
            engine, _ = await stack.enter_async_context(running)
            assert isinstance(engine, Tailrace)
            engine.mode = dataclasses.replace(engine.mode, engine=f"Tailrace, {name}")
            engines.append(engine)
        rates, costs = await throughput(engines, options.executions, _LENGTH, options.rounds, 1)
    return {"figures": rates, "cpu": costs}


async def _measure(options: argparse.Namespace) -> Report:
    report: Report = {
        "each step": EACH_STEP | peers.EACH_STEP,
        "fsync here, us": sync_microseconds(),
    }
    if options.profile:
        return report | await _profile(options)
    if options.traces:
        return report | await _traces(options)
    return report | await _compare(options) | {"growth": await _growth(options)}


def _print(report: Report) -> None:
    out = sys.stdout.write
    for name, does in report["each step"].items():
        out(f"{name}: {does}\n")
    out(f"An fsync of a small append takes {report['fsync here, us']} us on this machine.\n")
    for name, title in _TABLES.items():
        if rows := report.get(name):
            out(f"\n{title}\n")
            print_rows([{key: _text(row[key]) for key in row} for row in rows], as_json=False)
    if absent := report.get("absent"):
        out(f"\nNot installed: {', '.join(absent)}. Install: {peers.INSTALL}\n")


def _text(value: Any) -> Any:
    if isinstance(value, dict):
        return ", ".join(f"{name} {part}" for name, part in value.items())
    return value


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--install", action="store_true", help="install the other engines and exit")
    parser.add_argument("--profile", action="store_true", help="only profile the worker")
    parser.add_argument("--traces", action="store_true", help="only measure the cost of traces")
    parser.add_argument("--executions", type=int, default=256, help="concurrent executions")
    parser.add_argument(
        "--rounds", type=int, default=3, help="number of rounds; figures are medians"
    )
    parser.add_argument(
        "--runs", type=int, default=50, help="runs per latency; figures are medians"
    )
    parser.add_argument(
        "--nodes",
        type=lambda text: [int(size) for size in text.split(",")],
        default=[10, 100, 1_000, 10_000],
        help="sizes of the runs whose time per step is measured, separated by commas",
    )
    options = parser.parse_args()
    if options.install:
        peers.install()
        return
    if options.profile and not can_profile():
        parser.exit(2, f"the profiler is not installed: {peers.INSTALL}\n")
    report = uvloop.run(_measure(options))
    if options.json:
        sys.stdout.write(json.dumps(report) + "\n")
    else:
        _print(report)


if __name__ == "__main__":
    main()
