"""Fenced appends to an execution's log."""

import asyncio

import pytest

from harness.nats.current_reads import current_messages
from harness.nats.tcp_proxy import Proxy
from tailrace_shared.errors import (
    JetStreamError,
    MessageTooLargeError,
    UnavailableError,
    WrongLastSequenceError,
)
from tailrace_shared.execution.commits import encode_commits
from tailrace_shared.execution.events import (
    Event,
    ExecutionStarted,
    Started,
    StepBegun,
    StepLog,
    StepLogged,
    StepStarted,
)
from tailrace_shared.ids import new_execution_id
from tailrace_shared.nats import jetstream as jetstream_module
from tailrace_shared.nats.fenced_append import COMMIT_ID, WRITER, append
from tailrace_shared.nats.jetstream import JetStream, connect
from tailrace_shared.settings import CommonSettings
from tailrace_shared.stores.execution_log import ExecutionLog
from tailrace_shared.stores.workflow_store import StoredWorkflow
from tailrace_shared.workflow.definition import Definition, Node

NOW = "2024-01-15T10:30:00.000Z"


@pytest.fixture
def subject(site):
    """The log of a new execution."""
    return site.subjects.log("t", new_execution_id())


@pytest.fixture
def impatient(monkeypatch):
    """Time out requests after a fraction of a second instead of five."""
    monkeypatch.setattr(jetstream_module, "_PUBLISH_TIMEOUT_S", 0.3)


@pytest.fixture
async def proxied(site, shared_nats, impatient):  # noqa: ARG001 - impatient has its effect
    """A connection through a proxy."""
    async with Proxy(shared_nats.url) as proxy:
        client = await connect(CommonSettings(nats_url=proxy.url), "proxied")
        yield proxy, JetStream(client)
        await client.close()


async def stored(site, subject):
    """Return the payloads on a subject."""
    return [m.data for m in await current_messages(site.jetstream, site.events, subject)]


async def test_each_append_expects_the_preceding_sequence(site, subject):
    last, seen = 0, []
    for number in range(5):
        last = await append(
            site.jetstream, site.events, subject, b"%d" % number, expected=last, writer="w"
        )
        seen.append(last)
    messages = await current_messages(site.jetstream, site.events, subject)
    assert [m.sequence for m in messages] == seen == sorted(set(seen))
    assert [m.data for m in messages] == [b"0", b"1", b"2", b"3", b"4"]
    assert {m.headers[WRITER] for m in messages} == {"w"}
    assert len({m.headers[COMMIT_ID] for m in messages}) == 5


async def test_an_append_of_the_api_has_no_writer(site, subject):
    """So it does not displace the worker that drives the execution."""
    await append(site.jetstream, site.events, subject, b"x", expected=0)
    message = await site.jetstream.get(site.events, {"last_by_subj": subject})
    assert message is not None
    assert WRITER not in message.headers


@pytest.mark.parametrize("expected", [0, 10**9])
async def test_an_append_with_a_stale_sequence_is_refused(site, subject, expected):
    await append(site.jetstream, site.events, subject, b"first", expected=0)
    with pytest.raises(WrongLastSequenceError) as caught:
        await append(site.jetstream, site.events, subject, b"second", expected=expected)
    assert caught.value.code == 10071
    assert await stored(site, subject) == [b"first"]


async def test_other_executions_do_not_affect_the_fence(site):
    first, second = (site.subjects.log("t", execution) for execution in ("a", "b"))
    last = await append(site.jetstream, site.events, first, b"1", expected=0)
    await append(site.jetstream, site.events, second, b"2", expected=0)
    await append(site.jetstream, site.events, first, b"3", expected=last)
    assert await stored(site, first) == [b"1", b"3"]


async def test_of_two_writers_one_wins_each_append_and_the_log_stays_legal(site):
    """The loser reads the new commits and decides again."""
    log = ExecutionLog(site.jetstream, site.subjects)
    execution = new_execution_id()
    subject = site.subjects.log("t", execution)
    workflow = StoredWorkflow(Definition("w", {"n": Node("log")}), 1)
    created = await log.create("t", execution, workflow, None)
    assert created is not None
    wins = {"a": 0, "b": 0}
    losses = {"a": 0, "b": 0}
    together = asyncio.Barrier(2)

    async def write(name):
        for turn in range(20):
            await together.wait()
            while True:
                history = await log.load_newest("t", execution)
                event: Event
                if history.state.status == "queued":
                    event = ExecutionStarted(Started(execution, "running", NOW), NOW)
                elif "n" not in history.state.steps:
                    event = StepStarted(StepBegun("n", "log", "running", 1, NOW), NOW)
                else:
                    event = StepLogged(StepLog("n", "log", "info", f"{name}{turn}"), NOW)
                (payload,) = encode_commits([event])
                try:
                    await append(
                        site.jetstream,
                        site.events,
                        subject,
                        payload,
                        expected=history.last_sequence,
                        writer=name,
                    )
                except WrongLastSequenceError:
                    losses[name] += 1
                    continue
                wins[name] += 1
                break

    await asyncio.gather(write("a"), write("b"))
    assert wins == {"a": 20, "b": 20}
    assert losses["a"] + losses["b"] > 0
    # Folding raises for an illegal log.
    assert (await log.load_newest("t", execution)).state.steps["n"].status == "running"
    assert len(await stored(site, subject)) == 41


async def test_a_commit_whose_acknowledgement_was_lost_is_stored_once(site, subject, proxied):
    """The retry is refused, and the commit is recognized by its id."""
    proxy, jetstream = proxied
    proxy.loses = lambda piece: b'"seq":' in piece and not proxy.lost.is_set()
    sequence = await append(jetstream, site.events, subject, b"once", expected=0, writer="w")
    assert proxy.lost.is_set()
    assert await stored(site, subject) == [b"once"]
    message = await site.jetstream.get(site.events, {"last_by_subj": subject})
    assert message is not None
    assert message.sequence == sequence


async def test_a_lost_acknowledgement_is_recognized_after_further_commits(site, subject, proxied):
    """Another writer may have read the commit and appended to it."""
    proxy, jetstream = proxied
    proxy.loses = lambda piece: b'"seq":' in piece
    appending = asyncio.create_task(
        append(jetstream, site.events, subject, b"first", expected=0, writer="w")
    )
    await proxy.lost.wait()
    first = await site.jetstream.get(site.events, {"last_by_subj": subject})
    assert first is not None
    await append(site.jetstream, site.events, subject, b"next", expected=first.sequence)
    proxy.loses = lambda _piece: False
    assert await appending == first.sequence
    assert await stored(site, subject) == [b"first", b"next"]


async def test_a_delayed_commit_loses_to_another_writer(site, subject, proxied):
    proxy, jetstream = proxied
    proxy.hold()
    appending = asyncio.create_task(
        append(jetstream, site.events, subject, b"late", expected=0, writer="w")
    )
    await proxy.holding(b"late")
    await append(site.jetstream, site.events, subject, b"first", expected=0)
    await proxy.holding(b"late", times=2)  # the second try cannot be sure of the first
    proxy.release()
    with pytest.raises(WrongLastSequenceError):
        await appending
    assert await stored(site, subject) == [b"first"]


async def test_retries_that_arrive_together_are_stored_once(site, subject, proxied):
    proxy, jetstream = proxied
    proxy.hold()
    appending = asyncio.create_task(
        append(jetstream, site.events, subject, b"once", expected=0, writer="w")
    )
    await proxy.holding(b"once", times=2)
    proxy.release()
    sequence = await appending
    assert await stored(site, subject) == [b"once"]
    assert await append(site.jetstream, site.events, subject, b"next", expected=sequence)


async def test_retries_end_after_the_given_time(site, subject, proxied):
    """The caller has to read whether the commit was stored."""
    proxy, jetstream = proxied
    proxy.loses = lambda piece: b'"seq":' in piece
    with pytest.raises(UnavailableError):
        await append(jetstream, site.events, subject, b"x", expected=0, retry_s=0.5)
    await proxy.lost.wait()  # what was sent may have been on its way yet
    assert await stored(site, subject) == [b"x"]


async def test_a_subject_without_a_stream_is_unavailable(site):
    with pytest.raises(UnavailableError):
        await append(site.jetstream, "none", "no.stream.here", b"x", expected=0, retry_s=0.1)


@pytest.mark.parametrize("room", [0, 100, -1])
async def test_a_message_beyond_the_payload_limit_is_refused_before_it_is_sent(site, subject, room):
    """A retry would not help, and NATS would close the connection, which others share."""
    payload = b"x" * (site.jetstream.client.max_payload - room)
    with pytest.raises(MessageTooLargeError):
        await append(site.jetstream, site.events, subject, payload, expected=0)
    assert site.jetstream.client.stats["reconnects"] == 0


async def test_a_refusal_is_not_retried(site, subject):
    info = await site.jetstream.api(f"STREAM.INFO.{site.events}")
    config = {**info["config"], "max_msgs": 1, "discard": "new"}
    await site.jetstream.api(f"STREAM.UPDATE.{site.events}", config)
    last = await append(site.jetstream, site.events, subject, b"1", expected=0)
    with pytest.raises(JetStreamError, match="maximum messages exceeded"):
        await append(site.jetstream, site.events, subject, b"2", expected=last)
