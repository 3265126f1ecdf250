"""The topic of runs: a list of summaries, kept up to date by changes."""

import asyncio
import random
from typing import Any

import msgspec
import pytest

from harness.fakes.memory_nats import MemoryNats
from harness.fakes.virtual_time import run_in_virtual_time
from harness.generators.dialect_story import BAD, GOOD, LEFT, STORY, at, queued, wire
from harness.generators.random_tenant_log import TAGS, TenantLog
from harness.sse.client import SseParser
from tailrace_api.dialects.context import Context
from tailrace_api.dialects.dialect import LoggedEvent
from tailrace_api.dialects.encoding import encode_commit, without_id
from tailrace_api.dialects.multiplex import NamedTopic, multiplex
from tailrace_api.dialects.runs import MAX_LISTED, Runs
from tailrace_api.dialects.snapshot import RunsOf, Snapshot
from tailrace_shared.execution import events as ev
from tailrace_shared.execution.commits import encode_commits
from tailrace_shared.execution.state import ExecutionState
from tailrace_shared.execution.summary import RunSummary, summary_of

EMPTY = Snapshot(0, (), {}, frozenset())
KINDS = [RunsOf(), RunsOf(workflow="a"), RunsOf(tag=TAGS[0])]


def changes(dialect: Runs) -> list[dict[str, Any]]:
    """Return the changes that the story shows."""
    return [event.json() for event in SseParser().feed(b"".join(wire(dialect, STORY)))]


def shown(state: Any) -> list[dict[str, Any]]:
    """Return the runs with which a new stream begins."""
    (event,) = SseParser().feed(without_id(state.opening(0)))
    assert event.type == "runs.initial"
    runs: list[dict[str, Any]] = event.json()["runs"]
    return runs


def test_a_change_has_what_identifies_its_run_and_what_changed() -> None:
    """Of the first event, of its own and of its commit's headers."""
    first, started, *_ = changes(Runs())
    assert first == {
        "execution_id": GOOD.execution_id,
        "workflow_id": "purchase-order",
        "version": 7,
        "created_at": at(0),
        "parent": "0190a1b1-top",
        "rerun_of": None,
        "tags": ["vip", "eu"],
        "status": "queued",
    }
    assert {name: started[name] for name in started.keys() - first.keys()} == {
        "started_at": at(1),
        "eta_ms": 42_000,
    }
    assert started["status"] == "running"


@pytest.mark.parametrize(
    ("which", "executions"),
    [
        (RunsOf(), {GOOD.execution_id, BAD.execution_id, LEFT.execution_id}),
        (
            RunsOf(workflow="purchase-order"),
            {context.execution_id for context in (GOOD, BAD, LEFT)},
        ),
        (RunsOf(workflow="other"), set()),
        (RunsOf(tag="vip"), {GOOD.execution_id}),
        (RunsOf(tag="eu"), {GOOD.execution_id, LEFT.execution_id}),
        (RunsOf(tag="us"), set()),
    ],
)
def test_runs_are_limited_to_a_workflow_or_a_tag(which: RunsOf, executions: set[str]) -> None:
    """No other run is shown."""
    assert {change["execution_id"] for change in changes(Runs(which))} == executions


def test_topics_of_two_tags_show_the_same_event() -> None:
    """Each in the slot of its place among the run's tags."""
    topics = [NamedTopic(f"tag:{tag}", Runs(RunsOf(tag=tag))) for tag in ("eu", "vip", "us")]
    events = SseParser().feed(b"".join(wire(multiplex(topics), STORY[:1])))
    assert [event.type for event in events] == ["tag:vip", "tag:eu"]
    assert len({event.id for event in events}) == 2
    (alone,) = SseParser().feed(b"".join(wire(multiplex(topics[:1]), STORY[:1])))
    assert alone.id == events[1].id


def test_the_oldest_of_too_many_runs_leaves_the_list() -> None:
    """A new client gets the newest ones."""
    state = Runs().begin(EMPTY)
    for number in range(MAX_LISTED + 5):
        context = Context(f"e{number:04}", "w")
        (payload,) = encode_commits([queued(context, 0)])
        encode_commit(Runs(), "0", context, number + 1, payload, state.show)
    runs = shown(state)
    assert len(runs) == MAX_LISTED
    assert (runs[0]["execution_id"], runs[-1]["execution_id"]) == ("e0204", "e0005")
    assert state.size > 100 * MAX_LISTED


def test_a_wait_that_is_no_signal_changes_nothing() -> None:
    """Nor does a completion that a rerun keeps."""
    for event in (
        ev.StepWaiting(ev.StepWait("n", "delay", "waiting", at(1)), at(0)),
        ev.StepCompleted(
            ev.StepDone("n", "await", "success", 1, at(0), at(1), 1, {}, kept_from="e"), at(1)
        ),
    ):
        stored = msgspec.Raw(msgspec.json.encode(event))
        logged = msgspec.json.decode(stored, type=LoggedEvent)
        logged.commit_status = "running 1 1"
        assert Runs().show(GOOD, logged, stored) == (None,)


class _Log:
    """A random log of one tenant, whose commits all have headers."""

    def __init__(self, seed: int) -> None:
        self.log = TenantLog(MemoryNats(), random.Random(seed))
        self.contexts: dict[str, Context] = {}
        run_in_virtual_time(self._write())

    async def _write(self) -> None:
        for _ in range(40):
            await self.log.step(["t"], ["a", "b"])
            await asyncio.sleep(0)
        for _tenant, execution, _sequence, events in self.log.commits:
            if isinstance(first := events[0], ev.ExecutionQueued):
                queued = first.data
                self.contexts[execution] = Context(
                    execution,
                    queued.workflow_id,
                    version=queued.version,
                    created_at=first.timestamp,
                    tags=tuple(queued.tags),
                )

    def folded(self, kind: RunsOf, count: int) -> list[RunSummary]:
        """Return the runs of a kind after some commits, by a fold."""
        states: dict[str, ExecutionState] = {}
        for _tenant, execution, _sequence, events in self.log.commits[:count]:
            if kind.includes(self.contexts[execution]):
                for event in events:
                    states.setdefault(execution, ExecutionState()).apply(event)
        return [summary_of(states[name]) for name in sorted(states, reverse=True)]


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("seed", range(20))
def test_a_list_and_the_changes_since_are_the_list_now(seed: int, kind: RunsOf) -> None:
    """A client that begins anywhere keeps what the fold of the log says."""
    log, dialect = _Log(seed), Runs(kind)
    begin = random.Random(seed).randrange(len(log.log.commits))
    state = dialect.begin(EMPTY._replace(runs={kind: log.folded(kind, begin)}))
    known = {run["execution_id"]: run for run in shown(state)}
    for _tenant, execution, sequence, events in log.log.commits[begin:]:
        (payload,) = encode_commits(events)
        context, status = log.contexts[execution], log.log.statuses[sequence]
        encoded = encode_commit(dialect, "0", context, sequence, payload, state.show, status=status)
        for event in SseParser().feed(encoded.frames):
            assert dialect.concerns(context, payload)
            change = event.json()
            known.setdefault(execution, {}).update(change)
    expected = msgspec.to_builtins(log.folded(kind, len(log.log.commits)))
    for run in expected:
        del run["progress"], run["eta_ms"]
        # What has not changed yet is not set.
        mine = {name: known[run["execution_id"]].get(name) or None for name in run}
        assert mine == {name: value or None for name, value in run.items()}
    ids = [run["execution_id"] for run in shown(state)]
    assert ids == [run["execution_id"] for run in expected]
