"""The event log: reads, and the two appends of the API."""

import asyncio
import time

import pytest

from harness.nats.current_reads import current_commits
from harness.nats.listening import until_leader_sends
from tailrace_shared.errors import (
    ExecutionNotFoundError,
    IllegalCommandError,
    InvalidIdError,
    NewerLogError,
    UnavailableError,
)
from tailrace_shared.execution.commands import request_cancel, request_resume
from tailrace_shared.execution.commit_status import CommitStatus
from tailrace_shared.execution.commits import EVENTS_VERSION, encode_commits
from tailrace_shared.execution.events import (
    Cancelled,
    Command,
    CommandRequested,
    Completed,
    ExecutionCancelled,
    ExecutionCompleted,
    ExecutionStarted,
    Started,
    StepBegun,
    StepLog,
    StepLogged,
    StepStarted,
)
from tailrace_shared.execution.state import fold
from tailrace_shared.ids import new_execution_id, new_token
from tailrace_shared.nats.fenced_append import VERSION, append
from tailrace_shared.stores.execution_log import ExecutionLog
from tailrace_shared.stores.log_records import History
from tailrace_shared.stores.workflow_store import StoredWorkflow
from tailrace_shared.subjects import LogFilter
from tailrace_shared.workflow.definition import Definition, Node

NOW = "2024-01-15T10:30:00.000Z"
WORKFLOW = StoredWorkflow(Definition("w", {"n": Node("log")}), 7)
STARTED = ExecutionStarted(Started("e", "running", NOW), NOW)
STEP = StepStarted(StepBegun("n", "log", "running", 1, NOW), NOW)


class Writer:
    """Creates an execution and appends to it as a worker does."""

    def __init__(self, site):
        self.site = site
        self.log = ExecutionLog(site.jetstream, site.subjects)
        self.execution = new_execution_id()
        self.last = 0

    async def create(self):
        """Create the execution."""
        state = await self.log.create("t", self.execution, WORKFLOW, {"x": 1})
        commit = await self.log.last_commit("t", self.execution)
        assert commit is not None
        self.last = commit.sequence
        return state

    async def commit(self, *events, writer="worker"):
        """Append one commit."""
        (payload,) = encode_commits(events)
        self.last = await append(
            self.site.jetstream,
            self.site.events,
            self.site.subjects.log("t", self.execution),
            payload,
            expected=self.last,
            writer=writer,
        )
        return self.last


async def cancel(log, tenant, execution, reason=""):
    """Request that an execution is cancelled."""
    command_id = new_token()
    return await log.request(
        tenant, execution, lambda state: request_cancel(state, command_id, reason, time.time())
    )


@pytest.fixture
async def written(site):
    """An execution that exists."""
    writer = Writer(site)
    await writer.create()
    return writer


async def test_an_execution_is_created_once(site):
    """Of concurrent creates with one id one succeeds; the others get None."""
    log = ExecutionLog(site.jetstream, site.subjects)
    execution = new_execution_id()
    states = await asyncio.gather(
        *(log.create("t", execution, WORKFLOW, {"n": n}) for n in range(6))
    )
    (state,) = [made for made in states if made is not None]
    history = await log.load_newest("t", execution)
    assert history.state == state
    assert (state.version, state.workflow_id, state.status) == (7, "w", "queued")
    assert history.last_writer == ""


async def test_a_history_is_folded_from_its_commits(written):
    """It has the last sequence and the last worker that wrote."""
    await written.commit(STARTED, STEP, writer="worker-1")
    last = await written.commit(StepLogged(StepLog("n", "log", "info", "x"), NOW), writer="")
    history = await written.log.load("t", written.execution, at_least=last)
    commits = await current_commits(written.log, "t", written.execution)
    assert history.state == fold(event for commit in commits for event in commit.events())
    assert (history.last_sequence, history.last_writer) == (last, "worker-1")
    assert history.state.steps["n"].status == "running"
    assert [commit.writer for commit in commits] == ["", "worker-1", ""]


async def test_a_long_history_is_read_in_pages(written):
    """Interleaved with another log."""
    other = Writer(written.site)
    await other.create()
    await written.commit(STARTED, STEP)
    await other.commit(STARTED, STEP)
    for number in range(600):
        await written.commit(StepLogged(StepLog("n", "log", "info", str(number)), NOW))
        if number % 10 == 0:
            await other.commit(StepLogged(StepLog("n", "log", "info", "other"), NOW))
    commits = await current_commits(written.log, "t", written.execution)
    assert len(commits) == 602
    last = [commit.events()[-1] for commit in commits[2:]]
    messages = [event.data.message for event in last if isinstance(event, StepLogged)]
    assert messages == [str(number) for number in range(600)]
    tail = await current_commits(written.log, "t", written.execution, commits[300].sequence)
    assert tail == commits[300:]
    assert [c async for c in written.log.read("t", written.execution, written.last + 1)] == []


async def test_an_execution_that_does_not_exist_is_not_found(written):
    """Another tenant's execution is not found either."""
    for tenant, execution in (("t", "gone"), ("u", written.execution)):
        with pytest.raises(ExecutionNotFoundError):
            await written.log.load(tenant, execution)
        with pytest.raises(ExecutionNotFoundError):
            await cancel(written.log, tenant, execution, "")
        assert await written.log.last_commit(tenant, execution) is None
        assert [c async for c in written.log.read(tenant, execution)] == []
    for text in ("*", ">", "", "a.b"):
        with pytest.raises(InvalidIdError):
            await written.log.load("t", text)
        with pytest.raises(InvalidIdError):
            await written.log.load(text, written.execution)


async def test_a_commit_is_found_by_its_sequence(written):
    """With its tenant and execution."""
    sequence = await written.commit(STARTED)
    found = await written.log.find(sequence)
    assert found is not None
    tenant, execution, commit = found
    assert (tenant, execution, commit.sequence) == ("t", written.execution, sequence)
    assert commit.events() == [STARTED]
    for missing in (0, sequence + 1, 10**19 - 1):
        assert await written.log.find(missing) is None


async def test_the_edge_has_the_epoch_and_the_bounds_of_the_stream(written):
    """A recreated stream has another epoch."""
    edge = await written.log.edge()
    assert (edge.first_sequence, edge.last_sequence) == (1, written.last)
    assert int(edge.epoch, 16) > 1_700_000_000_000
    last = await written.commit(STARTED)
    assert await written.log.edge() == edge._replace(last_sequence=last)


async def test_the_newest_sequences_of_many_executions_are_read_at_once(written):
    """Executions that do not exist are left out."""
    expected = {}
    for _ in range(120):
        writer = Writer(written.site)
        await writer.create()
        expected[LogFilter("t", writer.execution)] = writer.last
    found = await written.log.last_sequences(
        [*expected, LogFilter("t", "gone"), LogFilter("u", "gone"), LogFilter("t"), LogFilter("u")]
    )
    assert found == {**expected, LogFilter("t"): max(expected.values())}


async def test_a_tenant_is_read_as_one_log(written):
    """The commits of its executions are interleaved in stored order."""
    other = Writer(written.site)
    await other.create()
    commits, more = await written.log.page(LogFilter("t"), other.last)
    assert not more
    assert [(commit.execution, commit.sequence) for commit in commits] == [
        (other.execution, other.last)
    ]
    assert await written.log.newest(LogFilter("t")) == commits[0]


class TestCancel:
    """A request to cancel is recorded, once."""

    async def test_a_request_is_recorded_in_the_log(self, written):
        await written.commit(STARTED)
        state = (await cancel(written.log, "t", written.execution, "no longer needed")).state
        history = await written.log.load_newest("t", written.execution)
        assert history.state == state
        assert state.cancel is not None
        assert state.cancel.data.reason == "no longer needed"
        assert (state.status, history.last_writer) == ("running", "worker")

    async def test_concurrent_requests_are_recorded_once(self, written):
        before = written.last
        await asyncio.gather(
            *(cancel(written.log, "t", written.execution, str(n)) for n in range(6))
        )
        commits = await current_commits(written.log, "t", written.execution, before + 1)
        assert len(commits) == 1

    async def test_a_request_that_loses_to_a_worker_is_recorded_after_its_commit(self, written):
        await written.commit(STARTED, STEP)

        async def work():
            for number in range(30):
                event = StepLogged(StepLog("n", "log", "info", str(number)), NOW)
                try:
                    await written.commit(event)
                except Exception:  # noqa: BLE001 - displaced by the request, which is the point
                    return

        working = asyncio.create_task(work())
        state = (await cancel(written.log, "t", written.execution, "")).state
        await working
        assert state.cancel is not None
        assert (await written.log.load_newest("t", written.execution)).state.cancel == state.cancel

    async def test_a_completed_execution_cannot_be_cancelled(self, written):
        """Nothing is written."""
        done = ExecutionCompleted(Completed("e", "completed", 5), NOW)
        await written.commit(STARTED, done)
        with pytest.raises(IllegalCommandError, match="the execution is completed"):
            await cancel(written.log, "t", written.execution, "")
        commit = await written.log.last_commit("t", written.execution)
        assert commit.sequence == written.last

    async def test_cancelling_a_cancelled_execution_is_accepted(self, written):
        """A repetition is answered like the first request."""
        await written.commit(STARTED, ExecutionCancelled(Cancelled("e", "cancelled", 5), NOW))
        recorded = await cancel(written.log, "t", written.execution, "again")
        assert recorded.state.status == "cancelled"


async def test_every_commit_is_republished_as_it_is_stored(site, written):
    """The message has the preceding sequence, so a subscriber detects every gap."""
    heard = await site.client.subscribe(site.subjects.live("t", written.execution))
    await until_leader_sends(site.client, site.events)
    first = written.last
    second = await written.commit(STARTED, STEP)
    third = await written.commit(StepLogged(StepLog("n", "log", "info", "x"), NOW))
    messages = [await heard.next_msg(60), await heard.next_msg(60)]
    places = [
        (int(m.headers["Nats-Sequence"]), int(m.headers["Nats-Last-Sequence"])) for m in messages
    ]
    assert places == [(second, first), (third, second)]
    commits = await current_commits(written.log, "t", written.execution, second)
    stored = [c.payload for c in commits]
    assert [m.data for m in messages] == stored


async def test_a_commit_carries_its_version(site, written):
    """Commits without a version count as version 1."""
    message = await site.jetstream.get(
        site.events, {"last_by_subj": site.subjects.log("t", written.execution)}
    )
    assert message.headers[VERSION] == "1"


@pytest.mark.parametrize("version", [str(EVENTS_VERSION + 1), "10"])
async def test_a_commit_of_a_newer_version_is_not_read(site, written, version):
    """Reads that interpret commits raise; those that pass them on mark it as newer."""
    subject = site.subjects.log("t", written.execution)
    sequence = await site.jetstream.publish(subject, b"[]", {VERSION: version})
    for attempt in (
        written.log.load("t", written.execution, sequence),
        written.log.last_commit("t", written.execution),
        cancel(written.log, "t", written.execution, ""),
    ):
        with pytest.raises(NewerLogError, match=f"this one reads events {EVENTS_VERSION}"):
            await attempt
    commits, _ = await written.log.page(LogFilter("t", written.execution), 1)
    assert [commit.is_newer for commit in commits] == [False] * (len(commits) - 1) + [True]
    found = await written.log.find(sequence)
    assert found is not None
    assert found[2].is_newer


async def test_the_newest_commits_of_many_executions_are_one_read(written):
    """The headers are included; a lagging replica is asked again."""
    other = await written.log.create("t", "other", WORKFLOW, {})
    assert other is not None
    newest = await written.log.newest(LogFilter("t"))
    asked = [written.execution, "other", "missing"]
    found = await written.log.last_commits("t", asked, newest.sequence)
    assert set(found) == {written.execution, "other"}
    assert found["other"].sequence == newest.sequence
    assert (found["other"].workflow, found["other"].status) == (
        other.workflow_id,
        CommitStatus("queued"),
    )
    assert found["other"].previous == 0
    first = await written.log.first("t", written.execution)
    assert first.sequence == found[written.execution].sequence
    assert await written.log.first("t", "missing") is None
    with pytest.raises(UnavailableError):
        await written.log.last_commits("t", asked, newest.sequence + 1)


async def test_a_commit_has_the_time_of_nats(written):
    began = time.time()
    sequence = await written.commit(STARTED)
    (first,), _more = await written.log.page(LogFilter("t", written.execution), sequence)
    last = await written.log.last_commit("t", written.execution)
    assert first.time == last.time
    assert began - 1 < first.time < time.time() + 1


async def test_a_replica_that_lags_refuses_no_command(written, monkeypatch):
    """A commit that it lacks may be what allows the command."""
    stale = await written.log.load_newest("t", written.execution)
    command = CommandRequested(Command(written.execution, "pause", "c"), NOW)
    await written.commit(command, writer="")
    load, served = written.log._load, list[History]()

    async def lag(tenant, execution):
        served.append(stale if not served else await load(tenant, execution))
        return served[-1]

    monkeypatch.setattr(written.log, "_load", lag)
    recorded = await written.log.request(
        "t", written.execution, lambda state: request_resume(state, "d", 0.0)
    )
    assert (served[0].state.is_held, recorded.state.is_held) == (False, False)
    with pytest.raises(IllegalCommandError, match="it was not paused by a request"):
        await written.log.request(
            "t", written.execution, lambda state: request_resume(state, "e", 0.0)
        )
