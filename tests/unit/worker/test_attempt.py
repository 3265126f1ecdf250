"""The reports of a running attempt, and how often they are taken."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest

from tailrace_shared.execution.commits import encode_commits
from tailrace_shared.execution.events import StepLogged, StepProgressed
from tailrace_shared.execution.state import StepState
from tailrace_worker.engine.run.attempt import (
    MAX_FIELDS_BYTES,
    MAX_LINES,
    MAX_MESSAGE_CHARACTERS,
    REPORT_INTERVAL,
    Attempt,
)
from tailrace_worker.nodes.node import NodeFailedError


def taken_from(attempt: Attempt) -> list[Any]:
    """Return what an attempt has reported, without their types."""
    return list(attempt.take_reports())


class Reader:
    """An attempt, and a reader that takes its reports whenever there are some."""

    def __init__(self):
        self.loop = asyncio.get_running_loop()
        self.woken = asyncio.Event()
        step = StepState("n", "po.parse", "running", attempt=2, stage="parsing")
        self.attempt = Attempt("t", "e", step, self.loop, self.woken.set)

    async def take(self):
        """Wait until there are reports, and take them."""
        async with asyncio.timeout(60):
            await self.woken.wait()
        self.woken.clear()
        assert self.attempt.is_due
        return taken_from(self.attempt)


async def test_an_attempt_knows_what_it_is_an_attempt_of():
    """The key is the same for every attempt of a step."""
    attempt = Reader().attempt
    assert (attempt.tenant, attempt.execution_id, attempt.node_id) == ("t", "e", "n")
    assert (attempt.attempt, attempt.idempotency_key, attempt.cancelled) == (2, "e:n", False)


async def test_progress_names_the_stage_of_its_node():
    """The tenant's feed shows it there."""
    reader = Reader()
    reader.attempt.progress(5)
    (report,) = await reader.take()
    assert report.data.stage == "parsing"


async def test_of_many_reports_five_a_second_are_kept_and_the_last():
    """A node may report at any rate."""
    reader = Reader()
    began = reader.loop.time()
    taken = []
    for percent in range(1000):
        reader.attempt.progress(percent / 10)
        if percent % 10 == 0:
            await asyncio.sleep(0.001)
        if reader.attempt.is_due:
            reader.woken.clear()
            taken += taken_from(reader.attempt)
    reader.attempt.close()
    taken += taken_from(reader.attempt)
    seconds = reader.loop.time() - began
    assert len(taken) <= 2 + seconds / REPORT_INTERVAL
    assert taken[-1].data.percent == 99.9
    percents = [report.data.percent for report in taken]
    assert percents == sorted(set(percents))


async def test_the_first_report_is_taken_at_once_and_the_next_after_a_while():
    """A quick node is visible, and a verbose one does not flood the log."""
    reader = Reader()
    began = reader.loop.time()
    reader.attempt.progress(1)
    for _ in range(3):  # turns of the loop, in which no timer has to run out
        await asyncio.sleep(0)
    assert reader.woken.is_set()
    await reader.take()
    reader.attempt.progress(2)
    await reader.take()
    assert reader.loop.time() - began >= REPORT_INTERVAL


async def test_up_to_a_thousand_log_lines_are_recorded():
    """They keep their order, and come before the newest progress."""
    reader = Reader()
    for number in range(MAX_LINES + 10):
        reader.attempt.log(f"line {number}")
    reader.attempt.progress(50)
    reports = await reader.take()
    assert [report.data.message for report in reports[:-1]] == [
        f"line {number}" for number in range(MAX_LINES)
    ]
    assert isinstance(reports[-1], StepProgressed)


async def test_reports_may_come_from_many_threads():
    """Synchronous nodes run in them."""
    reader = Reader()
    gate = threading.Barrier(4)

    def work(name):
        gate.wait(60)
        for number in range(100):
            reader.attempt.log(f"{name}-{number}")
            reader.attempt.progress(number)

    with ThreadPoolExecutor(4) as threads:
        await asyncio.gather(*(reader.loop.run_in_executor(threads, work, n) for n in "abcd"))
    await asyncio.sleep(0)
    lines = [r.data.message for r in taken_from(reader.attempt) if isinstance(r, StepLogged)]
    assert len(lines) == 400
    for name in "abcd":
        assert [line for line in lines if line[0] == name] == [f"{name}-{n}" for n in range(100)]


@pytest.mark.parametrize(
    ("percent", "kept"),
    [
        (-5, 0.0),
        (33.333333, 33.33),
        (250, 100.0),
        (float("inf"), 100.0),
        (float("nan"), 0.0),
        (True, 1.0),
    ],
)
async def test_percents_are_from_0_to_100(percent, kept):
    """They have two digits and are always valid JSON."""
    attempt = Reader().attempt
    attempt.progress(percent)
    (report,) = taken_from(attempt)
    assert report.data.percent == kept


async def test_reports_carry_fields():
    """Fields are recorded as their JSON equivalents."""
    attempt = Reader().attempt
    attempt.progress(5, "page 1", page=1, of=(2, 3))
    attempt.log("read", "debug", file="a.csv")
    # In the order of their times, which may be the same.
    line, progress = sorted(taken_from(attempt), key=lambda report: hasattr(report.data, "percent"))
    assert (line.data.level, line.data.fields) == ("debug", {"file": "a.csv"})
    assert (progress.data.message, progress.data.fields) == ("page 1", {"page": 1, "of": [2, 3]})


@pytest.mark.parametrize("field", [object(), {1, object()}, "\ud800", "x" * MAX_FIELDS_BYTES])
async def test_fields_that_no_event_can_carry_fail_the_attempt(field):
    """At the line that reports them."""
    attempt = Reader().attempt
    for report in (lambda: attempt.log("x", field=field), lambda: attempt.progress(1, field=field)):
        with pytest.raises(NodeFailedError, match="report's fields"):
            report()


async def test_messages_can_always_be_written():
    """Long ones are cut; a file name that is no Unicode must not stop the whole execution."""
    attempt = Reader().attempt
    attempt.log("x" * 10_000, "a very long level indeed")
    attempt.log("caf\udce9", "\udce9")
    no_text: Any = ValueError("not a text")
    attempt.log(no_text)
    attempt.progress(1, "caf\udce9")
    reports = taken_from(attempt)
    assert len(reports[0].data.message) == MAX_MESSAGE_CHARACTERS
    assert reports[1].data.message == "caf\\udce9"
    assert reports[2].data.message == "not a text"
    assert b"".join(encode_commits(reports))


async def test_fields_are_taken_as_they_are_at_the_time():
    """A node may go on with its dictionary."""
    attempt = Reader().attempt
    pages = [1]
    attempt.log("read", pages=pages)
    pages.append(2)
    (report,) = taken_from(attempt)
    assert report.data.fields == {"pages": [1]}


async def test_a_closed_attempt_does_not_wake_the_drive():
    """Its step has ended."""
    reader = Reader()
    reader.attempt.log("last")
    reader.attempt.close()
    await asyncio.sleep(REPORT_INTERVAL / 4)
    assert not reader.woken.is_set()
    assert len(taken_from(reader.attempt)) == 1


async def test_a_cancelled_attempt_observes_it_and_is_interrupted():
    """The function sees the flag; a coroutine is interrupted."""
    attempt = Reader().attempt
    attempt.task = asyncio.create_task(asyncio.sleep(3600))
    attempt.cancel()
    assert attempt.cancelled
    with pytest.raises(asyncio.CancelledError):
        await attempt.task


async def test_reports_are_events_of_the_log():
    """They carry the step's id and type."""
    attempt = Reader().attempt
    attempt.log("x")
    (commit,) = encode_commits(taken_from(attempt))
    ((event),) = msgspec.json.decode(commit)
    assert event["type"] == "step:log"
    assert event["data"] == {
        "node_id": "n",
        "node_type": "po.parse",
        "level": "info",
        "message": "x",
    }


@pytest.mark.parametrize("report", [Attempt.progress, Attempt.log])
async def test_a_field_that_is_no_number_is_refused_with_its_place(report):
    """It would become null."""
    attempt = Reader().attempt
    with pytest.raises(NodeFailedError, match="nan at /total/0 is not a JSON number"):
        report(attempt, 5, total=[float("nan")])
