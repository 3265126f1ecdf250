"""Random executions on workers under faults, and the checks of all results.

A campaign calls the commands that the API uses, without HTTP. Like a client with an idempotency
key, it retries each request until there is a response, so every accepted request must be applied.
"""

import asyncio
import contextlib
import operator
import os
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from pathlib import Path
from random import Random
from typing import Any, Final, TypeVar

from nats.aio.msg import Msg

from harness.generators.random_workflows import (
    ACTOR,
    ALWAYS,
    PROCEDURE,
    STEP,
    Mix,
    checked,
    wrong_endings,
)
from harness.models.derived_records import last_results, wrong_headers
from harness.models.family_invariants import family_violations
from harness.models.log_invariants import undriven_violations, violations
from harness.models.log_reading import Record
from harness.nats.deployment import NatsDeployment
from harness.nats.listening import until_leader_sends
from harness.nats.server import NatsServer
from harness.processes.installation import PURGED, TENANT, Installation, installation
from harness.processes.service import Service
from tailrace_shared.commands.execution_commands import Caller, Decision
from tailrace_shared.commands.run_starter import RunRequest
from tailrace_shared.errors import IllegalCommandError, JetStreamError, UnavailableError
from tailrace_shared.execution.events import TERMINAL
from tailrace_shared.execution.items import split_item_id
from tailrace_shared.execution.state import ExecutionState, awaits_signal, fold
from tailrace_shared.ids import new_token
from tailrace_shared.nats.topology import EVENTS
from tailrace_shared.stores.indexes.live_index import Live, LiveIndex
from tailrace_shared.stores.indexes.result_index import ResultIndex
from tailrace_shared.stores.log_records import Commit
from tailrace_shared.subjects import LogFilter
from tailrace_shared.workflow.definition import Definition

T = TypeVar("T")
_POLL_INTERVAL_S: Final = 3.0
"""Interval of reading the log without a notification, which a killed NATS does not send."""
_LIVE_INDEX_TIMEOUT_S: Final = 240.0
"""Time limit for ended executions to leave the live index."""


class Campaign:
    """Executions, workers and faults.

    Args:
        site: an installation; its NATS may be killed.
        folder: where steps note their effects.
        source: the source of randomness.
        tenant: the tenant of all executions.

    Attributes:
        workers: the worker processes.
        accepted: number of accepted commands, by kind.
        cancelled: executions with an accepted cancellation.
        faults: number of injected faults, by kind.
        deaths: number of workers that were restarted after an order had killed them.
    """

    def __init__(
        self, site: Installation, folder: Path, source: Random, tenant: str = TENANT
    ) -> None:
        self.site = site
        self.tenant = tenant
        self.folder = folder
        self.source = source
        self.workers: list[Service] = []
        self.started: list[str] = []
        self.cancelled: set[str] = set()
        self.accepted: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.deaths = 0
        self._definitions: dict[tuple[str, int], Definition] = {}
        (folder / "deaths").mkdir(parents=True, exist_ok=True)
        self.jobs = site.jobs
        self.starter = site.starter
        self.commander = site.commander
        self.signals = site.signals
        self.outputs = site.outputs

    def worker(self, **settings: str) -> Service:
        """Start one more worker."""
        fast = {
            "nodes": "harness.campaigns.proof_nodes",
            "ack_wait": "2s",
            "drain_grace": "500ms",
            "cancel_grace": "500ms",
            "max_crashes": "1000",
            "sweep_interval": "2s",
            "log_level": "warning",
        }
        service = self.site.worker(**{**fast, **settings})
        self.workers.append(service)
        return service

    # Requests

    async def insist(self, call: Callable[[], Awaitable[T]]) -> T:
        """Repeat a call until NATS responds."""
        while True:
            try:
                return await call()
            except (UnavailableError, JetStreamError):
                await asyncio.sleep(0.2)

    async def store(self, workflow: Definition) -> str:
        """Store a workflow; return its id."""
        workflows = self.site.workflows
        version = await self.insist(lambda: workflows.put(self.tenant, workflow))
        self._definitions[workflow.id, version] = workflow
        return workflow.id

    async def store_children(self) -> None:
        """Store the workflows that random ones run as children: one completes, one fails."""
        for name, fails in (("child", 0), ("bad-child", ALWAYS)):
            nodes = {
                "a": {"type": STEP, "with": {"seconds": 0.05}},
                "b": {"type": STEP, "with": {"fails": fails}, "needs": ["a"]},
            }
            await self.store(checked({"id": name, "nodes": nodes}))

    async def start(self, workflow_id: str, run_input: Any = None) -> str:
        """Start an execution; return its id."""
        request = RunRequest(self.tenant, workflow_id, "input", run_input, None, new_token())
        state = await self.insist(lambda: self.starter.start(request))
        self.started.append(state.execution_id)
        return state.execution_id

    async def emit(self) -> None:
        """Send the trigger that random awaits wait for."""
        key = new_token()
        matching = self.source.random() < 0.7
        await self.insist(
            lambda: self.signals.emit(self.tenant, PROCEDURE, {"n": 1 if matching else 2}, key)
        )

    async def command(self, execution: str, kind: str) -> bool:
        """Send a command to an execution; return whether it was accepted."""
        by = Caller("ann", new_token())
        decision = Decision(decision=self.source.choice(["approved", "rejected"]))
        asks: dict[str, Callable[[], Awaitable[Any]]] = {
            "cancel": lambda: self.commander.cancel(self.tenant, execution, "enough", by),
            "pause": lambda: self.commander.pause(self.tenant, execution, "wait", by),
            "resume": lambda: self.commander.resume(self.tenant, execution, by),
            "resolve": lambda: self._resolve(execution, decision, by),
            "rerun": lambda: self._rerun(execution),
        }
        try:
            await self.insist(asks[kind])
        except IllegalCommandError:
            self.accepted[f"{kind} refused"] += 1
            return False
        self.accepted[kind] += 1
        if kind == "cancel":
            self.cancelled.add(execution)
        return True

    async def decide(self, execution: str, decision: Decision) -> bool:
        """Send a decision to a step; return whether the step still waited for one."""
        by = Caller("ann", new_token())
        try:
            await self.insist(lambda: self.commander.resolve(self.tenant, execution, decision, by))
        except IllegalCommandError:
            return False
        return True

    async def _resolve(self, execution: str, decision: Decision, by: Caller) -> None:
        state = (await self.site.log.load(self.tenant, execution)).state
        waiting = [step.node_id for step in state.steps.values() if awaits_signal(step)]
        if not waiting:
            raise IllegalCommandError("nothing waits")
        node_id = self.source.choice(waiting)
        await self.commander.resolve(self.tenant, execution, decision._replace(node_id=node_id), by)

    async def _rerun(self, execution: str) -> None:
        state = (await self.site.log.load(self.tenant, execution)).state
        # A step of a group cannot be one to begin with, nor an item of one.
        nodes = list(self._definitions[state.workflow_id, state.version].nodes)
        steps = set(state.steps) - set(nodes)
        items = sorted(step for step in steps if split_item_id(step)[0] in nodes)
        from_node = self.source.choice([None, *nodes, *items[:3]])
        failed = self.source.random() < 0.3
        again = await self.starter.rerun(
            self.tenant, execution, from_node, new_token(), failed=failed
        )
        self.started.append(again.execution_id)

    # Faults

    async def _in_thread(self, call: Callable[[], object]) -> None:
        await asyncio.get_running_loop().run_in_executor(None, call)

    async def kill_and_restart(self) -> None:
        """Kill a worker with SIGKILL, and restart it."""
        worker = self.source.choice(self.workers)
        await self._in_thread(worker.kill)
        await asyncio.sleep(self.source.uniform(0, 1))
        await self._in_thread(worker.start)

    async def stop_and_restart(self) -> None:
        """Stop a worker with SIGTERM, and restart it."""
        worker = self.source.choice(self.workers)
        await self._in_thread(worker.stop)
        await self._in_thread(worker.start)

    async def freeze(self, longest: float = 5.0) -> None:
        """Freeze a worker with SIGSTOP, for about the ack wait or longer."""
        worker = self.source.choice(self.workers)
        # An order may have killed it just before.
        with contextlib.suppress(ProcessLookupError):
            worker.freeze()
        await asyncio.sleep(self.source.uniform(1.8, longest))
        with contextlib.suppress(ProcessLookupError):
            worker.thaw()

    async def freeze_then_kill(self) -> None:
        """Freeze a worker until its job is redelivered, then kill a worker."""
        await self.freeze(2.6)
        await asyncio.sleep(self.source.uniform(0.2, 0.8))
        await self.kill_and_restart()

    async def kill_nats(self) -> None:
        """Kill NATS and restart it."""
        server = self.site.nats
        assert isinstance(server, NatsServer)
        await self._in_thread(server.kill)
        await asyncio.sleep(self.source.uniform(0.1, 5))
        await self._in_thread(server.start)

    async def hurt(self, *, nats: bool = True) -> None:
        """Inject one random fault, and recover from it."""
        kinds = [
            self.kill_and_restart,
            self.kill_and_restart,
            self.freeze,
            self.freeze_then_kill,
            self.stop_and_restart,
            *([self.kill_nats] if nats else []),
        ]
        fault = self.source.choice(kinds)
        self.faults[fault.__name__] += 1
        await fault()

    async def revive(self, until: asyncio.Event) -> None:
        """Restart workers that an order has killed, until ``until`` is set."""
        while not until.is_set():
            for worker in self.workers:
                process = worker._process
                if process is not None and process.poll() is not None:
                    self.deaths += 1
                    # The next order may kill it before it is ready.
                    with contextlib.suppress(RuntimeError):
                        await self._in_thread(worker.start)
            await asyncio.sleep(0.05)

    def order_death(self, moment: str, event: str) -> None:
        """Order one worker to die ``before`` or ``after`` it appends a commit with an event."""
        (self.folder / "deaths" / f"{moment}.{event}").touch()

    @property
    def orders(self) -> list[str]:
        """The orders that no worker has executed yet."""
        return sorted(order.name for order in (self.folder / "deaths").iterdir())

    # Checks

    async def records(self) -> dict[str, Record]:
        """Read all executions from the log."""
        commits: dict[str, list[Commit]] = defaultdict(list)
        after, is_more = 0, True
        while is_more:
            page, is_more = await self.site.log.page(LogFilter(self.tenant), after + 1)
            for commit in page:
                commits[commit.execution].append(commit)
                after = commit.sequence
        return {execution: self._record(found) for execution, found in commits.items()}

    def _record(self, commits: list[Commit]) -> Record:
        (queued, *_rest) = commits[0].events()
        state = fold([queued])
        return Record(self._definitions[state.workflow_id, state.version], commits)

    async def settled(self, timeout: float) -> dict[str, Record]:
        """Wait until every execution has ended; resume those that are held.

        Raises:
            AssertionError: some have not, within ``timeout`` seconds.
        """
        deadline = asyncio.get_running_loop().time() + timeout
        async with self.watching(b'"type":"execution:c', b'"type":"execution:failed"') as ended:
            while True:
                records = await self.insist(self.records)
                open_ones = {
                    execution: record
                    for execution, record in records.items()
                    if not isinstance(record.commits[-1].events()[-1], TERMINAL)
                }
                if not open_ones:
                    return records
                for execution, record in open_ones.items():
                    if fold(record.events).is_held:
                        await self.command(execution, "resume")
                assert asyncio.get_running_loop().time() < deadline, _stuck(open_ones)
                await ended.all_of(set(open_ones))

    @contextlib.asynccontextmanager
    async def watching(self, *signs: bytes) -> AsyncIterator["Seen"]:
        """Collect the executions whose live commits contain one of some texts."""
        seen = Seen()

        async def collect(message: Msg) -> None:
            if any(sign in message.data for sign in signs):
                seen.add(message.subject.rpartition(".")[2])

        live = self.site.subjects.tenant_live(self.tenant)
        client = self.site.jetstream.client
        subscription = await client.subscribe(live, cb=collect)
        await until_leader_sends(client, self.site.subjects.stream(EVENTS))
        try:
            yield seen
        finally:
            await subscription.unsubscribe()

    async def check(self, records: dict[str, Record], *, modelled: bool = True) -> Counter[str]:
        """Assert that nothing is wrong; return the number of executions by status.

        Args:
            records: all executions.
            modelled: whether to compare the ends of steps with the naive model.
        """
        problems: list[str] = []
        statuses: Counter[str] = Counter()
        for execution, record in records.items():
            state = fold(record.events)
            statuses[state.status] += 1
            problems += [f"{execution}: {problem}" for problem in violations(record)]
            problems += [f"{execution}: {problem}" for problem in undriven_violations(state)]
            if modelled:
                problems += [f"{execution}: {problem}" for problem in self._endings(record, state)]
            if execution in self.cancelled and state.status != "cancelled":
                problems.append(f"{execution} was to be cancelled, and is {state.status}")
        problems += [f"{execution} has no log" for execution in set(self.started) - set(records)]
        problems += family_violations(records)
        problems += wrong_headers(records)
        problems += await self._wrong_indexes(records)
        problems += self._wrong_effects(records)
        assert not problems, "\n".join(problems[:40])
        return statuses

    async def _wrong_indexes(self, records: dict[str, Record]) -> list[str]:
        """Return the wrong entries of the live and the result index."""
        live = LiveIndex(self.site.jetstream, self.site.subjects)
        results = ResultIndex(self.site.jetstream, self.site.subjects)
        left: list[Live] = []

        async def read() -> list[Live]:
            nonlocal left
            left = await self.insist(lambda: live.of_tenant(self.tenant))
            return left

        # An execution leaves the index after its end; after a crash, the next worker removes it.
        with contextlib.suppress(TimeoutError):
            await self.site.until_read([PURGED], read, operator.not_, _LIVE_INDEX_TIMEOUT_S)
        last = last_results(records)
        indexed = await self.insist(lambda: results.of(self.tenant, last))
        return [
            *(f"{entry.execution} is live by the index" for entry in left),
            *(
                f"the last result of {workflow} is {indexed.get(workflow)}, not {result}"
                for workflow, result in last.items()
                if indexed.get(workflow) != result
            ),
        ]

    def _endings(self, record: Record, state: ExecutionState) -> list[str]:
        # Steps that a rerun keeps are checked in the original.
        if state.status == "cancelled" or state.rerun_of is not None or state.from_node is not None:
            return []
        return wrong_endings(record, state)

    def repeated_effects(self, executions: Collection[str]) -> list[str]:
        """Return the steps of some executions that took effect more than once, with any key."""
        took = Counter(
            step
            for what, step, _, _ in self._effects()
            if what == "effect" and step.partition(":")[0] in executions
        )
        return [f"{step} took effect {count} times" for step, count in took.items() if count > 1]

    def _effects(self) -> list[list[str]]:
        """Return the notes of the steps: kind, step, attempt and key."""
        file = self.folder / "effects"
        return [line.split() for line in file.read_text().splitlines()] if file.exists() else []

    def _wrong_effects(self, records: dict[str, Record]) -> list[str]:
        """Return the wrong effects, as a service sees them that accepts each key once."""
        lines = self._effects()
        began = Counter((step, attempt) for what, step, attempt, _ in lines if what == "began")
        keys: dict[str, set[str]] = defaultdict(set)
        for what, step, _attempt, key in lines:
            if what == "effect":
                keys[step].add(key)
        problems = [
            f"{step} took effect as {found}" for step, found in keys.items() if len(found) > 1
        ]
        problems += [
            f"attempt {attempt} of {step} began {count} times"
            for (step, attempt), count in began.items()
            if count > 1
        ]
        shared = Counter(key for found in keys.values() for key in found)
        problems += [
            f"{count} steps share the key {key}" for key, count in shared.items() if count > 1
        ]
        for execution, record in records.items():
            for state in fold(record.events).steps.values():
                is_ours = state.node_type in {STEP, ACTOR} and state.kept_from is None
                if not is_ours or state.status != "success":
                    continue
                name = f"{execution}:{state.node_id}"
                if not keys[name]:
                    problems.append(f"{name} succeeded without its effect")
                if not began[name, str(state.attempt)]:
                    problems.append(f"{name} succeeded in an attempt that never began")
        return problems


@contextlib.asynccontextmanager
async def campaign(nats: NatsDeployment, folder: Path, seed: int) -> AsyncIterator[Campaign]:
    """Open a campaign on a dedicated NATS."""
    with proof_environment(folder):
        async with installation(nats, folder) as site:
            opened = Campaign(site, folder, Random(seed))
            await opened.store_children()
            yield opened


@contextlib.contextmanager
def proof_environment(folder: Path) -> Iterator[None]:
    """Let services find the proof nodes, and these the folder for their effects."""
    paths = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    around = {"PROOF_FOLDER": str(folder), "PYTHONPATH": os.pathsep.join(paths)}
    before = {name: os.environ.get(name) for name in around}
    os.environ.update(around)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class Seen:
    """Executions with a matching commit."""

    def __init__(self) -> None:
        self._executions: set[str] = set()
        self._more = asyncio.Event()

    def add(self, execution: str) -> None:
        """Add one."""
        self._executions.add(execution)
        self._more.set()

    async def all_of(self, executions: set[str]) -> None:
        """Wait until all are seen, or for the poll interval: a killed NATS sends nothing."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_POLL_INTERVAL_S):
                while not executions <= self._executions:
                    self._more.clear()
                    await self._more.wait()


def _stuck(records: dict[str, Record]) -> str:
    lines = []
    for execution, record in records.items():
        state = fold(record.events)
        open_steps = {
            step.node_id: (step.status, step.waiting.wait if step.waiting else "")
            for step in state.steps.values()
            if step.status not in {"success", "error", "skipped", "cancelled"}
        }
        writers = [commit.writer for commit in record.commits[-3:]]
        lines.append(f"{execution} is {state.status}: {open_steps} {writers}")
    return f"{len(records)} executions have not ended\n" + "\n".join(lines[:20])


MIX: Mix = Mix(children=("child", "child", "bad-child"))
