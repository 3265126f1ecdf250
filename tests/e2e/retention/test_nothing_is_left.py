"""Ended executions leave nothing in NATS, so the disk usage levels off."""

import asyncio
from typing import Any, Final

from harness.processes.polling import until
from harness.processes.tailrace_up import TailraceUp
from tailrace import Client
from tailrace.local.embedded_nats import token_file
from tailrace_shared.nats.jetstream import JetStream, connect
from tailrace_shared.nats.topology import (
    DUE,
    EVENTS,
    LINES,
    LIVE,
    OUTPUTS,
    RESULTS,
    RUNS,
    STATS,
    WAITING,
)
from tailrace_shared.settings import CommonSettings
from tailrace_shared.subjects import Subjects

# Four of them are more than the log holds itself.
_TEXT_BYTES: Final = 100_000
_ROUNDS: Final = 3
_RUNS: Final = 8
_WORKFLOWS: Final[dict[str, dict[str, Any]]] = {
    "large": {"nodes": {"a": {"type": "transform", "with": {"value": ["${input.text}"] * 4}}}},
    "broken": {"nodes": {"a": {"type": "fail", "with": {"message": "no"}}}},
    "short-wait": {
        "nodes": {
            "ask": {
                "type": "await",
                "timeout": "100ms",
                "on_timeout": "continue",
                "with": {"reason": "approval"},
            }
        }
    },
    "parent-of-large": {
        "nodes": {"child": {"type": "workflow", "with": {"id": "large", "input": "${input}"}}}
    },
}


async def test_ended_executions_leave_nothing_behind(client: Client, system: TailraceUp) -> None:
    """Their logs, outputs, summaries and index entries are deleted, round after round."""
    for name, workflow in _WORKFLOWS.items():
        await asyncio.to_thread(client.apply, {"id": name, **workflow})
    settings = CommonSettings(
        nats_url=f"nats://127.0.0.1:{system.nats_port}",
        nats_token_file=str(token_file(system.folder / "data")),
    )
    nats = await connect(settings, "test")
    jetstream, subjects = JetStream(nats), Subjects()
    # A row of the start index stays for a minute at least; the integration tests remove it.
    streams = [subjects.stream(name) for name in (EVENTS, OUTPUTS, LINES)]
    streams += [f"KV_{subjects.stream(name)}" for name in (RUNS, WAITING, LIVE, DUE)]
    # These have a few records of each workflow, however often it runs.
    of_workflows = [f"KV_{subjects.stream(name)}" for name in (STATS, RESULTS)]

    async def state(stream: str) -> dict[str, int]:
        found: dict[str, int] = (await jetstream.api(f"STREAM.INFO.{stream}"))["state"]
        return found

    async def stored() -> dict[str, int]:
        return {stream: (await state(stream))["bytes"] for stream in streams}

    async def records() -> list[int]:
        return [(await state(stream))["messages"] for stream in of_workflows]

    before = await stored()
    # Two of statistics and one of the last result.
    most = [
        found + each * len(_WORKFLOWS) for found, each in zip(await records(), (2, 1), strict=True)
    ]
    for _ in range(_ROUNDS):
        for _ in range(_RUNS):
            for name in _WORKFLOWS:
                value = "x" * _TEXT_BYTES if "large" in name else ""
                await asyncio.to_thread(client.run, name, {"text": value})

        async def is_empty() -> bool:
            now = await stored()
            return all(now[stream] <= before[stream] for stream in streams)

        await until(is_empty)
        assert all(found <= bound for found, bound in zip(await records(), most, strict=True))
    await nats.close()
