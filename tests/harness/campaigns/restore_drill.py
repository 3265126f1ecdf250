"""The restore drill: back up under load, lose every volume, restore.

Clients go on after their last id. Those that had events from after the backup get a reset, and the
whole execution again. Every run that the backup knows ends.
"""

import abc
import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any, Final

import httpx
import pyrage

from harness.processes.polling import until
from harness.sse.client import SseClient, SseEvent
from tailrace_shared.position import StreamPosition

_PATIENCE_S: Final = 300.0
_PAUSE_S: Final = 0.05
WORKFLOWS: Final[dict[str, dict[str, Any]]] = {
    "quick": {"nodes": {"a": {"type": "log", "with": {"message": "x"}}}},
    "approval": {
        "nodes": {
            "before": {"type": "transform", "with": {"value": "x" * 300_000}},
            "ask": {"type": "await", "needs": ["before"], "with": {"reason": "approval"}},
            "after": {
                "type": "transform",
                "needs": ["ask"],
                "with": {"value": "${size(nodes.before.output)}"},
            },
        }
    },
    "timer": {
        "concurrency": {"limit": 3},
        "nodes": {
            "wait": {"type": "delay", "with": {"duration": "6s"}},
            "after": {"type": "log", "needs": ["wait"], "with": {"message": "x"}},
        },
    },
}


class Drill(abc.ABC):
    """One installation, and clients that follow its runs.

    Args:
        load_pause_s: how long each of the two that start runs waits after a start.

    Attributes:
        identity: the key of the backup.
        workflows: the workflow of each run.
        received: the events of the log that the client of each run has received, in order.
        resets: the runs whose client got a ``stream:reset``.
        http: the client of the API.
    """

    http: httpx.AsyncClient

    def __init__(self, load_pause_s: float) -> None:
        self._load_pause_s = load_pause_s
        self.identity = pyrage.x25519.Identity.generate()
        self.workflows: dict[str, str] = {}
        self.received: dict[str, list[SseEvent]] = {}
        self.resets: set[str] = set()

    @property
    @abc.abstractmethod
    def address(self) -> tuple[str, int]:
        """The address and the port of the API."""

    @abc.abstractmethod
    async def back_up(self) -> None:
        """Take a backup for the identity."""

    @abc.abstractmethod
    async def lose_everything(self) -> None:
        """Lose the volumes of NATS. When it returns, or during the restore, all streams end."""

    @abc.abstractmethod
    async def restore(self) -> str:
        """Restore the backup into an empty NATS; return what the command says."""

    @abc.abstractmethod
    async def resume(self) -> None:
        """Start the services."""

    async def connect(self) -> None:
        """Begin to use the API at its address."""
        host, port = self.address
        self.http = httpx.AsyncClient(base_url=f"http://{host}:{port}", timeout=60, trust_env=False)

    async def prepare(self) -> None:
        """Store the workflows."""
        await self.connect()
        for name, workflow in WORKFLOWS.items():
            answer = await self.http.put(f"/api/v1/workflows/{name}", json=workflow)
            assert answer.status_code < 300, answer.text

    async def carry_out(self) -> str:
        """Carry out the drill; return how long the restore took, and what it said.

        Raises:
            AssertionError: a client lost an event that the backup has, or kept one that it has not.
        """
        yearly = {"id": "yearly", "workflow_id": "quick", "cron": "0 30 4 1 1 *"}
        assert (await self.http.post("/api/v1/schedules", json=yearly)).status_code == 201
        waiting = [await self._run("approval") for _ in range(4)]
        timers = [await self._run("timer") for _ in range(5)]
        watching = [asyncio.create_task(self._watch(each)) for each in (*waiting, *timers)]
        await _until(lambda: all(self._has(each, "step:waiting") for each in waiting))
        assert (await self.http.get("/api/v1/schedules")).json()["schedules"]

        # Load, while the backup is taken.
        is_loaded = True

        async def load() -> None:
            while is_loaded:
                execution = await self._run("quick")
                watching.append(asyncio.create_task(self._watch(execution)))
                await asyncio.sleep(self._load_pause_s)

        loading = [asyncio.create_task(load()) for _ in range(2)]
        await _until(lambda: len(self.received) > 20)
        await self.back_up()

        # What happens after the backup is lost: two approvals and some runs.
        count = len(self.received)
        await _until(lambda: len(self.received) > count + 5)
        is_loaded = False
        await asyncio.gather(*loading)
        for execution in waiting[:2]:
            await self._approve(execution)
        lost = await self._run("quick")
        watching.append(asyncio.create_task(self._watch(lost)))
        ended = [lost, *waiting[:2]]
        await _until(lambda: all(self._has(each, "execution:completed") for each in ended))

        await self.lose_everything()
        began = time.monotonic()
        said = await self.restore()
        seconds = time.monotonic() - began
        await asyncio.gather(*watching)
        await self.http.aclose()
        await self.resume()
        await self.connect()
        settling = [asyncio.create_task(self._settle(each)) for each in self.received]
        await asyncio.gather(*map(self._approve, waiting))
        async with asyncio.timeout(_PATIENCE_S):
            await asyncio.gather(*settling)

        await self._check_clients(lost, waiting)
        await self._check_derived(waiting)
        return f"{seconds:.1f} s: {said.strip()}"

    async def _run(self, workflow: str) -> str:
        """Start a run; return its id."""
        answer = await self.http.post(f"/api/v1/workflows/{workflow}/runs", json={"input": {}})
        assert answer.status_code == 202, answer.text
        execution: str = answer.json()["execution_id"]
        self.workflows[execution], self.received[execution] = workflow, []
        return execution

    async def _approve(self, execution: str) -> None:
        answer = await self.http.post(
            f"/api/v1/executions/{execution}/resume", json={"decision": "approved"}
        )
        assert answer.status_code == 202, answer.text

    async def _watch(self, execution: str) -> None:
        """Follow a run from the last id of its client, as long as one stream lasts."""
        host, port = self.address
        path = f"/api/v1/sse/executions/{execution}/stream"
        received = self.received[execution]
        last = received[-1].id if received else ""
        with contextlib.suppress(OSError):
            async with SseClient(port, path, last_event_id=last, host=host) as stream:
                async for event in stream:
                    if event.type == "stream:reset":
                        reason = event.json()["reason"]
                        assert reason == "restored", f"{reason}, and not restored"
                        self.resets.add(execution)
                        received.clear()
                    elif event.is_logged:
                        received.append(event)

    async def _settle(self, execution: str) -> None:
        """Reconnect at least once, until the client knows all of a run, which has ended or is gone.

        The client of a run that the backup does not have ends with the reset.
        """

        async def is_settled() -> bool:
            await self._watch(execution)
            if self._has(execution, "execution:completed"):
                return True
            return execution in self.resets and await self._log(execution) is None

        await until(is_settled, _PATIENCE_S)

    async def _log(self, execution: str) -> list[str] | None:
        """Return the ids of the events of a run; None if there is none."""
        path = f"/api/v1/workflows/{self.workflows[execution]}/runs/{execution}"
        answer = await self.http.get(path, params={"include_logs": "true"})
        assert answer.status_code in (200, 404), answer.text
        return [each["id"] for each in answer.json()["logs"]] if answer.status_code == 200 else None

    async def _check_clients(self, lost: str, waiting: list[str]) -> None:
        """Check that a client missed nothing, or began again because it knew what is lost."""
        for execution, received in self.received.items():
            log = await self._log(execution)
            assert [event.id for event in received] == (log or []), execution
            if log is None:
                assert execution in self.resets
            else:
                assert received[-1].type == "execution:completed"
        assert {lost, *waiting[:2]} <= self.resets
        assert not self.resets & {*waiting[2:]}
        assert await self._log(lost) is None
        first = StreamPosition.parse(self.received[waiting[0]][0].id)
        last = StreamPosition.parse(self.received[waiting[0]][-1].id)
        assert first is not None
        assert last is not None
        assert first.epoch == last.epoch
        assert last.sequence > first.sequence + 10_000_000

    async def _check_derived(self, waiting: list[str]) -> None:
        """Check that lists, schedules and new runs work."""
        runs = (await self.http.get("/api/v1/workflows/approval/runs")).json()
        assert {run["execution_id"] for run in runs["runs"]} == {*waiting}
        [schedule] = (await self.http.get("/api/v1/schedules")).json()["schedules"]
        assert schedule["id"] == "yearly"
        new = await self._run("timer")
        await self._settle(new)
        assert self._has(new, "execution:completed")

    def _has(self, execution: str, kind: str) -> bool:
        return any(event.type == kind for event in self.received[execution])


async def _until(condition: Callable[[], Any]) -> None:
    """Wait for what clients receive."""
    async with asyncio.timeout(_PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - many events of many clients
            await asyncio.sleep(_PAUSE_S)
