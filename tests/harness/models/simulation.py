"""Simulate an execution: the real scheduler in a random environment.

The simulation replaces everything around the scheduler: workers that commit, lose a fence, crash
and are replaced; actors; child runs; callers that decide, pause, resume and cancel; the clock. It
writes commits with writers, so the same invariants apply as to a real log. There is no waiting and
no I/O: thousands of executions take seconds.
"""

from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import Final

from harness.generators.random_workflows import ACTOR, ALWAYS, HANGS, STEP, wrong_endings
from harness.generators.scripted_log import EPOCH
from harness.models.log_invariants import undriven_violations, violations
from harness.models.log_reading import Record
from tailrace_shared.duration import Duration
from tailrace_shared.errors import IllegalCommandError
from tailrace_shared.execution import commands
from tailrace_shared.execution.commits import encode_commits
from tailrace_shared.execution.events import (
    Command,
    CommandRequested,
    Event,
    StepBegun,
    StepStarted,
)
from tailrace_shared.execution.state import ExecutionState, StepState, awaits_signal, fold
from tailrace_shared.execution.timestamps import format_timestamp, parse_timestamp
from tailrace_shared.stores.log_records import Commit
from tailrace_shared.workflow.definition import Definition, Node
from tailrace_worker.engine.decide.outcomes import Erred, Outcome, Succeeded, end_event, lost
from tailrace_worker.engine.decide.plan import Plan, names_of
from tailrace_worker.engine.decide.scheduler import MAX_DECISIONS, Scheduler
from tailrace_worker.nodes.node import Wait
from tailrace_worker.nodes.waits import ForChild, ForSignal

_INSTANT: Final = frozenset({"transform", "delay", "await", "workflow", "fail"})
_MAX_ACTIONS: Final = 20_000


class Simulation:
    """One simulated execution.

    Args:
        definition: the workflow.
        source: the source of randomness.
        largest_turn: number of events after which a worker commits, as the driver does.
        commits: the log of an execution to continue; empty for a new one.
    """

    def __init__(
        self,
        definition: Definition,
        source: Random,
        largest_turn: int = 64,
        commits: Sequence[Commit] = (),
    ) -> None:
        self.plan = Plan(definition, lambda node_type: node_type == ACTOR)
        self.source = source
        self.now = EPOCH
        self._largest_turn = largest_turn
        self._commits = list(commits)
        self._log = [event for commit in commits for event in commit.events()]
        self._writers = 1
        self._commands = 0
        if not commits:
            self._store("", [commands.create("e1", definition, 1, None, self.now)])
        else:
            # Later than every timer in the log.
            stamps = [parse_timestamp(event.timestamp) for event in self._log]
            self.now = max(*stamps, *(commit.time for commit in commits)) + 86400
        self.scheduler = self._recovered()

    @property
    def record(self) -> Record:
        """The execution, as the invariants take it."""
        return Record(self.plan.definition, self._commits)

    @property
    def state(self) -> ExecutionState:
        """The state in the memory of the worker."""
        return self.scheduler.state

    @property
    def is_over(self) -> bool:
        """Whether the execution has ended."""
        return self.state.is_terminal

    # The worker

    def turn(self, facts: Iterable[Event] = ()) -> None:
        """Commit facts and the decisions that follow, until there are none."""
        pending = list(facts)
        while True:
            batch, more = self._decide(pending)
            self._store(self._writer, batch)
            pending = []
            if self.scheduler.must_stop(self.now):
                self._store(self._writer, self.scheduler.stopped(self.now))
                more = not self.is_over
            if not more:
                break
        problems = undriven_violations(self.state) if not self.scheduler.attended else []
        assert not problems, "\n".join(problems)

    def outrun_turn(self, ask: Callable[[ExecutionState], CommandRequested | None]) -> None:
        """Append a request just before a turn, which loses its fence and decides again."""
        facts = self._some_facts()
        self._decide(facts)
        self.scheduler = self._recovered()
        self.command(ask)
        self.turn([self.scheduler.record(fact) for fact in facts])

    def crash(self) -> None:
        """Crash the worker; another one recovers from the log."""
        self._writers += 1
        self.scheduler = self._recovered()
        self.turn(
            [
                self.scheduler.record(
                    lost(step, self._node(step), "crash", "its worker was lost", self.now)
                )
                for step in self.scheduler.attended
            ]
        )

    def end_attempt(self) -> None:
        """End one of the attempts that the worker runs."""
        self.turn(self._some_facts())

    def _some_facts(self) -> list[Event]:
        attended = self.scheduler.attended
        if not attended:
            return []
        step = self.source.choice(attended)
        return [self.scheduler.record(self._end(step))]

    def _decide(self, facts: Sequence[Event]) -> tuple[list[Event], bool]:
        batch = list(facts)
        while decisions := self.scheduler.decide(self.now):
            batch += decisions
            ends = [
                self.scheduler.record(self._end(self._step(event.data.node_id)))
                for event in decisions
                if isinstance(event, StepStarted) and event.data.node_type in _INSTANT
            ]
            batch += ends
            if not ends and len(decisions) < MAX_DECISIONS:
                assert not self.scheduler.decide(self.now), "the decision was incomplete"
                break
            if len(batch) >= self._largest_turn:
                return batch, True
        return batch, False

    # Actors and child runs

    def begin_remotely(self) -> None:
        """Let an actor begin one of the steps that wait for it."""
        waiting = self._waiting_for("actor")
        if waiting and not self.state.is_held and not self.state.must_stop:
            step = self.source.choice(waiting)
            node_type, stamp = self._node(step).type, format_timestamp(self.now)
            begun = StepBegun(
                step.node_id, node_type, "running", step.attempt + 1, stamp, remote=True
            )
            self._append_remotely(StepStarted(begun, stamp))

    def end_remotely(self) -> None:
        """Let an actor end one of its attempts, or lose it."""
        remote = [s for s in self.state.steps.values() if s.status == "running" and s.is_remote]
        if remote:
            step = self.source.choice(remote)
            is_lost = self.source.random() < 0.2
            self._append_remotely(
                lost(step, self._node(step), "crash", "its actor was lost", self.now)
                if is_lost
                else self._end(step)
            )

    def end_child(self) -> None:
        """End one of the child runs, with success or failure."""
        waiting = self._waiting_for("child")
        if waiting and self.state.status == "running":
            step = self.source.choice(waiting)
            ended: Outcome = Erred("failed") if self.source.random() < 0.4 else Succeeded(1)
            draw = self.source.random()
            fact = end_event(step, ended, self._node(step), self.now, draw)
            self.turn([self.scheduler.record(fact)])

    def _append_remotely(self, event: Event) -> None:
        """Append without a writer's name; the worker is notified and reads the log."""
        self._store("", [event])
        self.scheduler = self._recovered()
        self.turn()

    def _waiting_for(self, kind: str) -> list[StepState]:
        return [
            step
            for step in self.state.steps.values()
            if step.status == "waiting" and step.waiting is not None and step.waiting.wait == kind
        ]

    # Commands and time

    def command(self, ask: Callable[[ExecutionState], CommandRequested | None]) -> bool:
        """Send a command; return whether it was accepted."""
        try:
            event = ask(fold(self._log))
        except IllegalCommandError:
            return False
        if event is None:
            return False
        self._store("", [event])
        self.scheduler = self._recovered()
        return True

    def pause(self) -> None:
        """Request a pause."""
        self.outrun_turn(lambda state: commands.request_pause(state, self._id, "", self.now))

    def resume(self) -> None:
        """Request a resume."""
        self.outrun_turn(lambda state: commands.request_resume(state, self._id, self.now))

    def cancel(self) -> None:
        """Request a cancellation."""
        self.outrun_turn(lambda state: commands.request_cancel(state, self._id, "", self.now))

    def decide_for(self) -> None:
        """Send a signal to one of the steps that await one."""
        waiting = [step.node_id for step in self.state.steps.values() if awaits_signal(step)]
        if waiting:
            decision = self.source.choice(["approved", "rejected"])
            signal = Command(
                "e1", "resolve", self._id, actor="ann", decision=decision, data={"n": 1}
            )
            signal.node_id = self.source.choice(waiting)
            self.outrun_turn(lambda state: commands.request_resolve(state, signal, self.now))

    def pass_time(self) -> None:
        """Advance the clock to the next timer, or by 10 ms if there is none."""
        due = self.scheduler.next_due
        self.now = self.now + 0.01 if due is None else max(self.now, due)
        self.turn()

    # The end

    ACTIONS: Final = (
        "end_attempt",
        "end_attempt",
        "end_attempt",
        "begin_remotely",
        "end_remotely",
        "end_child",
        "decide_for",
        "pass_time",
        "crash",
    )
    DISTURBANCES: Final = ("pause", "resume", "cancel")

    def act(self, *, disturbed: float) -> None:
        """Do a random action; a disturbance with the probability ``disturbed``."""
        is_disturbed = self.source.random() < disturbed
        getattr(self, self.source.choice(self.DISTURBANCES if is_disturbed else self.ACTIONS))()

    def finish(self) -> None:
        """Do every possible action until the execution has ended."""
        for _ in range(_MAX_ACTIONS):
            if self.is_over:
                return
            self._do_all_actions()
        raise AssertionError(f"the execution does not end: {self._stuck()}")

    def _do_all_actions(self) -> None:
        if self.state.is_held:
            self.resume()
        for act in (self.end_attempt, self.begin_remotely, self.end_remotely, self.end_child):
            act()
        if not self.scheduler.attended:
            if self.scheduler.next_due is None:
                self.decide_for()
            self.pass_time()

    def _stuck(self) -> dict[str, str]:
        settled = {"success", "error", "skipped"}
        return {s.node_id: s.status for s in self.state.steps.values() if s.status not in settled}

    def check(self) -> None:
        """Assert that the log has no violation, and that every node ended like the model."""
        problems = violations(self.record, ended=self.is_over)
        state = fold(self._log)
        if state.status in {"completed", "failed"}:
            problems += wrong_endings(self.record, state)
        assert not problems, "\n".join(problems)

    # Parts

    def _recovered(self) -> Scheduler:
        return Scheduler(self.plan, fold(self._log))

    def _store(self, writer: str, events: Sequence[Event]) -> None:
        for payload in encode_commits(events) if events else ():
            sequence = self._commits[-1].sequence + 1 if self._commits else 1
            commit = Commit(sequence, payload, writer)
            self._commits.append(commit)
            # Readers decode the stored bytes, not the objects of the writer.
            self._log += commit.events()

    @property
    def _writer(self) -> str:
        return f"w{self._writers}"

    @property
    def _id(self) -> str:
        self._commands += 1
        return f"c{self._commands}"

    def _step(self, step_id: str) -> StepState:
        return self.state.steps[step_id]

    def _node(self, step: StepState) -> Node:
        return self.plan.step(step.node_id).node

    def _end(self, step: StepState) -> Event:
        node = self._node(step)
        return end_event(step, self._outcome(step, node), node, self.now, self.source.random())

    def _outcome(self, step: StepState, node: Node) -> Outcome:
        match node.type:
            case "delay":
                return Wait(self.now + Duration.parse(str(node.parameters["duration"])))
            case "await":
                on_reject = node.parameters.get("on_reject", "continue")
                return ForSignal("approval", on_reject=on_reject)
            case "workflow":
                return ForChild("child", {})
            case "fail":
                return Erred("failed as configured", retryable=False)
            case _ if node.type in {STEP, ACTOR}:
                return self._work(step, node)
            case _:
                return Succeeded(self.source.randrange(9))

    def _work(self, step: StepState, node: Node) -> Outcome:
        fails = node.parameters.get("fails", 0)
        if fails == "${item}":
            fails = names_of(step.node_id, self.state)["item"]
        if node.timeout == HANGS:
            fails = ALWAYS
        return Erred("failed as configured") if step.failures < fails else Succeeded(step.attempt)
