"""Random logs of some tenants in memory, written like workers write them, with headers and indexes.

The folded state of each execution is kept as well, so that a test can compare.
"""

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any, Final

from harness.fakes.memory_nats import MemoryNats
from tailrace_shared.execution import events as ev
from tailrace_shared.execution.commit_status import STATE, WORKFLOW
from tailrace_shared.execution.commits import encode_commits
from tailrace_shared.execution.state import ExecutionState
from tailrace_shared.execution.timestamps import format_timestamp
from tailrace_shared.nats.jetstream import EXPECTED_LAST_SUBJECT_SEQUENCE
from tailrace_shared.stores.indexes.live_index import LiveIndex
from tailrace_shared.stores.indexes.result_index import Result, ResultIndex
from tailrace_shared.stores.indexes.run_index import RunIndex
from tailrace_shared.stores.indexes.start_index import Start, StartIndex
from tailrace_shared.stores.indexes.waiting_index import Waiting, WaitingIndex
from tailrace_shared.subjects import Subjects

TAGS: Final = ["x", "y"]

_FIRST_SECOND: Final = 1_700_000_000


@dataclass(slots=True, eq=False)
class Run:
    """One execution.

    Attributes:
        workflow: the id of its workflow.
        state: the folded state of its log.
        last: the sequence of its last commit.
    """

    tenant: str
    workflow: str
    execution: str
    state: ExecutionState = field(default_factory=ExecutionState)
    last: int = 0


@dataclass(slots=True, eq=False)
class TenantLog:
    """The writer of the executions of some tenants.

    Attributes:
        nats: where it writes.
        dice: the source of randomness.
        header_percent: percentage of commits with status headers.
        commits: the tenant, execution, sequence and events of each commit.
        workflows: the workflow of each execution.
        statuses: the status header of each commit that has one, by sequence.
    """

    nats: MemoryNats
    dice: random.Random
    header_percent: int = 100
    commits: list[tuple[str, str, int, list[ev.Event]]] = field(default_factory=list)
    workflows: dict[str, str] = field(default_factory=dict)
    statuses: dict[int, str] = field(default_factory=dict)
    _live: list[Run] = field(default_factory=list)
    _number: int = 0

    async def begin(self, tenant: str, workflow: str) -> Run:
        """Start an execution; like the product, put it into the live index before the log."""
        self._number += 1
        run = Run(tenant, workflow, f"e{self._number}")
        self.workflows[run.execution] = workflow
        await self._retrying(LiveIndex(self.nats, Subjects()).put, tenant, workflow, run.execution)
        tags = self.dice.sample(TAGS, self.dice.randrange(len(TAGS) + 1))
        starts, start = StartIndex(self.nats, Subjects()), Start(run.execution, 1)
        await self._retrying(starts.add, tenant, workflow, start)
        for tag in tags:
            await self._retrying(starts.add_tag, tenant, workflow, start, tag)
        name = workflow.upper()
        queued = ev.Queued(run.execution, workflow, name, 1, {"n": 1}, "queued", tags=tags)
        self.commit(run, ev.ExecutionQueued(queued, self._now()))
        self._live.append(run)
        return run

    def commit(self, run: Run, *events: ev.Event) -> int:
        """Append a commit."""
        for event in events:
            run.state.apply(event)
        headers = {EXPECTED_LAST_SUBJECT_SEQUENCE: str(run.last)}
        if self.dice.randrange(100) < self.header_percent:
            headers |= {WORKFLOW: run.workflow, STATE: str(run.state.commit_status)}
            self.statuses[self.nats.last_sequence + 1] = headers[STATE]
        payload = next(encode_commits(events))
        run.last = self.nats.append(run.tenant, run.execution, payload, headers)
        self.commits.append((run.tenant, run.execution, run.last, list(events)))
        return run.last

    async def end(self, run: Run, event: ev.Event) -> None:
        """End an execution; like the product, write its result before it leaves the live index."""
        self._live.remove(run)
        self.commit(run, event)
        await asyncio.sleep(self.dice.choice([0, 0.01, 0.5]))
        await self._settle_waits(run, {})
        state = run.state
        result = Result(run.execution, state.status, run.last, state.finished_at or "")
        # A new index each time, like another worker.
        results = ResultIndex(self.nats, Subjects())
        await self._retrying(results.put, run.tenant, run.workflow, result)
        live = LiveIndex(self.nats, Subjects())
        await self._retrying(live.remove, run.tenant, run.workflow, run.execution)

    async def step(self, tenants: list[str], workflows: list[str]) -> None:
        """Make one random execution progress, or start one."""
        if not self._live or self.dice.random() < 0.2:
            await self.begin(self.dice.choice(tenants), self.dice.choice(workflows))
            return
        run = self.dice.choice(self._live)
        events = list(self._next_events(run))
        if isinstance(events[-1], ev.TERMINAL):
            if len(events) > 1:
                self.commit(run, *events[:-1])
            await self.end(run, events[-1])
            return
        self.commit(run, *events)
        if self.dice.random() < 0.5:
            # Otherwise the list shows an earlier status.
            runs = RunIndex(self.nats, Subjects())
            await self._retrying(runs.put, run.tenant, run.state)
        waits = {step.node_id: step for step in run.state.steps.values() if step.waits_for_signal}
        if self.dice.random() < 0.8:
            # Otherwise the index is updated with a later commit.
            await self._settle_waits(run, waits)

    def _next_events(self, run: Run) -> list[ev.Event]:
        state, now, id_ = run.state, self._now(), run.execution
        if state.status == "queued":
            if self.dice.random() < 0.1:
                return [ev.ExecutionCancelled(ev.Cancelled(id_, "cancelled", 0), now)]
            return [ev.ExecutionStarted(ev.Started(id_, "running", now), now)]
        waiting = state.waiting(100)
        resumed = ev.ExecutionResumed(ev.Resumed(id_, "running"), now)
        events: list[ev.Event] = [resumed] if state.status == "paused" else []
        chance = self.dice.random()
        if chance < 0.12:
            end = ev.Cancelled(id_, "cancelled", 1, "enough", waiting)
            return [ev.ExecutionCancelled(end, now)]
        if waiting and chance < 0.6:
            node = self.dice.choice(waiting)
            done = ev.StepDone(node, "await", "success", 1, now, now, 1, {})
            events.append(ev.StepCompleted(done, now))
            waiting.remove(node)
        elif chance < 0.7:
            number = len(state.steps)
            for node in (f"n{number}", f"n{number + 1}")[: self.dice.choice([1, 2])]:
                begun = ev.StepBegun(node, "await", "running", 1, now)
                wait = ev.StepWait(node, "await", "waiting", None, "signal", reason="approval")
                events += [ev.StepStarted(begun, now), ev.StepWaiting(wait, now)]
                waiting.append(node)
        elif not waiting:
            kind = self.dice.choice(["completed", "failed"])
            if kind == "completed":
                events.append(ev.ExecutionCompleted(ev.Completed(id_, kind, 1), now))
            else:
                events.append(ev.ExecutionFailed(ev.Failed(id_, kind, 1, "no"), now))
            return events
        else:
            return [resumed] if state.status == "paused" else [self._paused(run, waiting)]
        if waiting and self.dice.random() < 0.5:
            events.append(self._paused(run, waiting))
        return events

    def _paused(self, run: Run, waiting: list[str]) -> ev.Event:
        paused = ev.Paused(run.execution, "paused", "approval", waiting=waiting)
        return ev.ExecutionPaused(paused, self._now())

    async def _settle_waits(self, run: Run, waits: dict[str, Any]) -> None:
        index = WaitingIndex(self.nats, Subjects())
        known = await self._retrying(index.of_execution, run.tenant, run.execution)
        for entry in known:
            if entry.node_id not in waits:
                await self._retrying(index.remove, run.tenant, entry)
        for node, step in waits.items():
            entry = Waiting(
                run.execution,
                node,
                run.workflow,
                run.workflow.upper(),
                "approval",
                step.waiting_since,
            )
            await self._retrying(index.put, run.tenant, entry)

    async def _retrying(self, call: Any, *args: Any) -> Any:
        while True:
            try:
                return await call(*args)
            except Exception:  # noqa: BLE001 - NATS is unavailable; workers retry
                await asyncio.sleep(0.1)

    def _now(self) -> str:
        # Increasing, so that no two waits of one step begin at the same time.
        return format_timestamp(_FIRST_SECOND + len(self.commits) + self.dice.random())
