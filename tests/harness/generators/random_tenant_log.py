"""A tenant's log in memory, written as workers write it: headers, indexes and all, or some of it.

What is live and how it stands is kept beside, by folding, so that a test can compare.
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
from tailrace_shared.stores.indexes.waiting_index import Waiting, WaitingIndex
from tailrace_shared.subjects import Subjects

_FIRST_SECOND: Final = 1_700_000_000


@dataclass(slots=True, eq=False)
class Run:
    """One execution.

    Attributes:
        tenant: whose.
        workflow: what it runs.
        execution: its id.
        state: what its log folds to.
        last: its last sequence.
    """

    tenant: str
    workflow: str
    execution: str
    state: ExecutionState = field(default_factory=ExecutionState)
    last: int = 0


@dataclass(slots=True, eq=False)
class TenantLog:
    """Executions of some tenants, and who writes them.

    Attributes:
        nats: where.
        dice: decides what happens.
        told: how many commits of a hundred have headers.
        commits: all that was written: the tenant, the execution, the sequence and the events.
        workflows: what each execution runs.
    """

    nats: MemoryNats
    dice: random.Random
    told: int = 100
    commits: list[tuple[str, str, int, list[ev.Event]]] = field(default_factory=list)
    workflows: dict[str, str] = field(default_factory=dict)
    _live: list[Run] = field(default_factory=list)
    _number: int = 0

    async def begin(self, tenant: str, workflow: str) -> Run:
        """Begin a run, as a start does: it is in the live index before it is in the log."""
        self._number += 1
        run = Run(tenant, workflow, f"e{self._number}")
        self.workflows[run.execution] = workflow
        await self._patiently(LiveIndex(self.nats, Subjects()).put, tenant, workflow, run.execution)
        queued = ev.Queued(run.execution, workflow, workflow.upper(), 1, {"n": 1}, "queued")
        self.commit(run, ev.ExecutionQueued(queued, self._now()))
        self._live.append(run)
        return run

    def commit(self, run: Run, *events: ev.Event) -> int:
        """Append a commit."""
        for event in events:
            run.state.apply(event)
        headers = {EXPECTED_LAST_SUBJECT_SEQUENCE: str(run.last)}
        if self.dice.randrange(100) < self.told:
            headers |= {WORKFLOW: run.workflow, STATE: str(run.state.commit_status)}
        payload = next(encode_commits(events))
        run.last = self.nats.append(run.tenant, run.execution, payload, headers)
        self.commits.append((run.tenant, run.execution, run.last, list(events)))
        return run.last

    async def end(self, run: Run, event: ev.Event) -> None:
        """End a run, as a worker does: its result is known before it leaves the live index."""
        self._live.remove(run)
        self.commit(run, event)
        await asyncio.sleep(self.dice.choice([0, 0.01, 0.5]))
        await self._settle_waits(run, {})
        state = run.state
        result = Result(run.execution, state.status, run.last, state.finished_at or "")
        # Each time another worker.
        results = ResultIndex(self.nats, Subjects())
        await self._patiently(results.put, run.tenant, run.workflow, result)
        live = LiveIndex(self.nats, Subjects())
        await self._patiently(live.remove, run.tenant, run.workflow, run.execution)

    async def step(self, tenants: list[str], workflows: list[str]) -> None:
        """Let something happen to some run, or begin one."""
        if not self._live or self.dice.random() < 0.2:
            await self.begin(self.dice.choice(tenants), self.dice.choice(workflows))
            return
        run = self.dice.choice(self._live)
        events = list(self._what_happens(run))
        if isinstance(events[-1], ev.TERMINAL):
            if len(events) > 1:
                self.commit(run, *events[:-1])
            await self.end(run, events[-1])
            return
        self.commit(run, *events)
        waits = {step.node_id: step for step in run.state.steps.values() if step.waits_for_signal}
        if self.dice.random() < 0.8:
            # Or the index learns it later, with what comes next.
            await self._settle_waits(run, waits)

    def _what_happens(self, run: Run) -> list[ev.Event]:
        state, now, id_ = run.state, self._now(), run.execution
        if state.status == "queued":
            if self.dice.random() < 0.1:
                return [ev.ExecutionCancelled(ev.Cancelled(id_, "cancelled", 0), now)]
            return [ev.ExecutionStarted(ev.Started(id_, "running", now), now)]
        waiting = state.waiting(100)
        resumed = ev.ExecutionResumed(ev.Resumed(id_, "running"), now)
        happened: list[ev.Event] = [resumed] if state.status == "paused" else []
        chance = self.dice.random()
        if chance < 0.12:
            end = ev.Cancelled(id_, "cancelled", 1, "enough", waiting)
            return [ev.ExecutionCancelled(end, now)]
        if waiting and chance < 0.6:
            node = self.dice.choice(waiting)
            done = ev.StepDone(node, "await", "success", 1, now, now, 1, {})
            happened.append(ev.StepCompleted(done, now))
            waiting.remove(node)
        elif chance < 0.7:
            number = len(state.steps)
            for node in (f"n{number}", f"n{number + 1}")[: self.dice.choice([1, 2])]:
                begun = ev.StepBegun(node, "await", "running", 1, now)
                wait = ev.StepWait(node, "await", "waiting", None, "signal", reason="approval")
                happened += [ev.StepStarted(begun, now), ev.StepWaiting(wait, now)]
                waiting.append(node)
        elif not waiting:
            kind = self.dice.choice(["completed", "failed"])
            if kind == "completed":
                happened.append(ev.ExecutionCompleted(ev.Completed(id_, kind, 1), now))
            else:
                happened.append(ev.ExecutionFailed(ev.Failed(id_, kind, 1, "no"), now))
            return happened
        else:
            return [resumed] if state.status == "paused" else [self._paused(run, waiting)]
        if waiting and self.dice.random() < 0.5:
            happened.append(self._paused(run, waiting))
        return happened

    def _paused(self, run: Run, waiting: list[str]) -> ev.Event:
        paused = ev.Paused(run.execution, "paused", "approval", waiting=waiting)
        return ev.ExecutionPaused(paused, self._now())

    async def _settle_waits(self, run: Run, waits: dict[str, Any]) -> None:
        index = WaitingIndex(self.nats, Subjects())
        known = await self._patiently(index.of_execution, run.tenant, run.execution)
        for entry in known:
            if entry.node_id not in waits:
                await self._patiently(index.remove, run.tenant, entry)
        for node, step in waits.items():
            entry = Waiting(
                run.execution,
                node,
                run.workflow,
                run.workflow.upper(),
                "approval",
                step.waiting_since,
            )
            await self._patiently(index.put, run.tenant, entry)

    async def _patiently(self, ask: Any, *args: Any) -> Any:
        while True:
            try:
                return await ask(*args)
            except Exception:  # noqa: BLE001 - NATS is away; workers wait for it
                await asyncio.sleep(0.1)

    def _now(self) -> str:
        # One after the other, so that no two waits of one step begin at the same time.
        return format_timestamp(_FIRST_SECOND + len(self.commits) + self.dice.random())
