"""History is read once for equal requests, and new streams may be refused."""

import asyncio

import pytest

from harness.fakes.memory_nats import MemoryNats
from harness.fakes.virtual_time import run_in_virtual_time
from harness.generators import hand_written_log as written
from tailrace_api.dialects.execution import EXECUTION
from tailrace_api.fanout.history.replay import Page, Replay, ReplayBusyError
from tailrace_api.fanout.runtime.counts import Counts
from tailrace_api.fanout.tenants.contexts import Contexts
from tailrace_api.fanout.views.view import View
from tailrace_shared.errors import UnavailableError
from tailrace_shared.execution.commits import encode_commits
from tailrace_shared.nats.bucket import Bucket
from tailrace_shared.nats.topology import HORIZONS
from tailrace_shared.stores.execution_log import ExecutionLog
from tailrace_shared.stores.horizon_store import HorizonStore
from tailrace_shared.subjects import LogFilter, Subjects

VIEW = View(EXECUTION, LogFilter("t", "e"))


def _commit(nats: MemoryNats, execution: str = "e") -> int:
    return nats.append("t", execution, next(encode_commits([written.step_log("n", "x")])))


class _Desk:
    """A replay and what it reads from."""

    def __init__(self, budget: int = 1000) -> None:
        self.nats = MemoryNats()
        self.counts = Counts()
        log = ExecutionLog(self.nats, Subjects())
        horizons = HorizonStore(Bucket(self.nats, HORIZONS))
        self.replay = Replay(log, Contexts(log, 1000), horizons, self.counts, budget)

    async def page(self, from_sequence: int = 1, view: View = VIEW, *, is_new: bool = True) -> Page:
        return await self.replay.page(view, "e", from_sequence, is_new=is_new)


def test_requests_of_the_same_page_share_one_read() -> None:
    """They share the bytes too: ten thousand clients get the same object."""

    async def scenario() -> None:
        desk = _Desk()
        _commit(desk.nats)
        pages = await asyncio.gather(*(desk.page() for _ in range(10_000)))
        assert desk.nats.reads == desk.counts.reads == 1
        assert len({id(page.batch) for page in pages}) == 1
        assert desk.counts.shared_reads == 9_999
        found = await asyncio.gather(*(desk.replay.find_next(1) for _ in range(1000)))
        assert desk.nats.reads == 2
        assert found[0] is not None
        assert found[0][:2] == ("t", "e")

    run_in_virtual_time(scenario())


def test_different_pages_are_different_reads() -> None:
    """Of another view, from another place."""

    async def scenario() -> None:
        desk = _Desk()
        for _ in range(3):
            _commit(desk.nats)
        pages = await asyncio.gather(desk.page(1), desk.page(2), desk.page(3))
        assert [page.first for page in pages] == [1, 2, 3]
        assert desk.nats.reads == 3

    run_in_virtual_time(scenario())


@pytest.mark.parametrize(("size", "seconds"), [(10, 3.0), (70_000, 0.25)])
def test_pages_are_cached_for_a_short_time(size: int, seconds: float) -> None:
    """Deletion of history is soon noticed. Small pages stay while clients take turns."""

    async def scenario() -> None:
        desk = _Desk()
        event = written.step_log("n", "x" * size)
        desk.nats.append("t", "e", next(encode_commits([event])))
        await desk.page()
        assert await desk.replay.find_next(1) is not None
        await asyncio.sleep(0.9 * seconds)
        await desk.page()
        assert await desk.replay.find_next(1) is not None
        assert desk.nats.reads == 2
        await asyncio.sleep(0.2 * seconds)
        await desk.page()
        assert desk.nats.reads == 3
        await asyncio.sleep(4)
        assert not desk.replay._tasks

    run_in_virtual_time(scenario())


def test_cached_pages_have_a_limit() -> None:
    """Beyond it they stay for a quarter of a second."""

    async def scenario() -> None:
        desk, count = _Desk(), 200
        payload = next(encode_commits([written.step_log("n", "x" * 60_000)]))
        executions = [f"e{number}" for number in range(count)]
        parts = [LogFilter("t", execution) for execution in executions]
        for execution in executions:
            desk.nats.append("t", execution, payload)
        for _ in range(2):
            for part in parts:
                assert len(await desk.replay.commits(part, 1)) == 1
            await asyncio.sleep(1)
        cached = 8 * 1024 * 1024 // len(payload)
        assert desk.nats.reads == count + count - cached

    run_in_virtual_time(scenario())


def test_an_empty_page_is_not_shared_with_later_callers() -> None:
    """A read that began earlier does not know of commits stored meanwhile."""

    async def scenario() -> None:
        desk = _Desk()
        held = asyncio.Event()
        batch = desk.nats.batch

        async def late_batch(stream: str, request: dict[str, object]) -> object:
            found = await batch(stream, request)
            await held.wait()
            return found

        desk.nats.batch = late_batch  # type: ignore[method-assign, assignment]
        early = asyncio.create_task(desk.page())
        await asyncio.sleep(0.1)
        _commit(desk.nats)
        late = [asyncio.create_task(desk.page()) for _ in range(10)]
        await asyncio.sleep(0.1)
        held.set()
        assert (await early).batch is None
        assert {page.first for page in await asyncio.gather(*late)} == {1}
        assert desk.nats.reads == 2

    run_in_virtual_time(scenario())


def test_the_first_caller_may_be_cancelled() -> None:
    """The others still get their answer."""

    async def scenario() -> None:
        desk = _Desk()
        _commit(desk.nats)
        first = asyncio.create_task(desk.page())
        await asyncio.sleep(0)
        second = asyncio.create_task(desk.page())
        await asyncio.sleep(0)
        first.cancel()
        assert (await second).first == 1
        assert desk.nats.reads == 1

    run_in_virtual_time(scenario())


def test_a_failed_read_fails_for_all_callers_and_is_not_cached() -> None:
    """The next caller reads again."""

    async def scenario() -> None:
        desk = _Desk()
        _commit(desk.nats)
        desk.nats.is_connected = False
        answers = await asyncio.gather(*(desk.page() for _ in range(3)), return_exceptions=True)
        assert all(isinstance(answer, UnavailableError) for answer in answers)
        desk.nats.is_connected = True
        assert (await desk.page()).first == 1

    run_in_virtual_time(scenario())


def test_beyond_the_budget_new_streams_are_refused() -> None:
    """Open streams, and reads that are already in flight, are not refused."""

    async def scenario() -> None:
        desk = _Desk(budget=20)
        for number in range(100):
            _commit(desk.nats, f"e{number}")

        def view(number: int) -> View:
            return View(EXECUTION, LogFilter("t", f"e{number}"))

        new = [asyncio.create_task(desk.page(view=view(number))) for number in range(20)]
        await asyncio.sleep(0)
        assert desk.replay.reads == 20
        with pytest.raises(ReplayBusyError):
            await desk.page(view=view(50))
        same = asyncio.create_task(desk.page(view=view(19)))
        begun = asyncio.create_task(desk.page(view=view(60), is_new=False))
        assert all(page.batch for page in await asyncio.gather(*new, same, begun))
        assert desk.replay.reads == 0
        assert (await desk.page(view=view(50))).batch

    run_in_virtual_time(scenario())


def test_a_small_page_of_an_execution_is_shared_for_seconds_until_the_log_loses_data() -> None:
    """Streams of several topics open in turns; a large page is not kept in memory for them."""

    async def scenario() -> None:
        desk = _Desk()
        _commit(desk.nats)
        small, large = VIEW.part, LogFilter("t", "large")
        desk.nats.append("t", "large", next(encode_commits([written.step_log("n", "x" * 70_000)])))
        for part in (small, large):
            assert len(await desk.replay.commits(part, 1)) == 1
        await asyncio.sleep(2)
        reads = desk.nats.reads
        assert len(await desk.replay.commits(small, 1)) == 1
        assert desk.nats.reads == reads
        await desk.replay.commits(large, 1)
        assert desk.nats.reads == reads + 1
        desk.replay.forget()
        await desk.replay.commits(small, 1)
        assert desk.nats.reads == reads + 2
        await asyncio.sleep(4)
        await desk.replay.commits(small, 1)
        assert desk.nats.reads == reads + 3

    run_in_virtual_time(scenario())
