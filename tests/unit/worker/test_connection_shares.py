"""The connections of the http node, shared between tenants."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from tailrace_worker.nodes.exchange.connection_shares import ConnectionShares


class Requests:
    """Requests of tenants that hold their connections until the test ends them."""

    def __init__(self, total):
        self.shares = ConnectionShares(total)
        self.open = []
        self.tasks = []

    async def begin(self, tenant):
        async def hold():
            async with self.shares.hold(tenant):
                ended = asyncio.Event()
                self.open.append((tenant, ended))
                await ended.wait()

        self.tasks.append(asyncio.create_task(hold()))
        await settle()

    async def end(self, index):
        _, ended = self.open.pop(index % len(self.open))
        ended.set()
        await settle()

    def held(self, tenant):
        return sum(name == tenant for name, _ in self.open)


async def settle():
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_tenant_alone_gets_half():
    requests = Requests(8)
    for _ in range(8):
        await requests.begin("a")
    assert requests.held("a") == 4
    await requests.begin("b")
    assert requests.held("b") == 1
    for task in requests.tasks:
        task.cancel()


async def test_a_cancelled_wait_gives_back_nothing_and_its_turn():
    requests = Requests(2)
    await requests.begin("a")
    for _ in range(2):
        await requests.begin("a")
    requests.tasks[1].cancel()
    await settle()
    await requests.end(0)
    assert requests.held("a") == 1
    await requests.end(0)
    await asyncio.wait(requests.tasks)
    await requests.begin("b")
    assert requests.held("b") == 1
    requests.tasks[-1].cancel()


@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b", "c", "end", "cancel"]), st.integers(0, 50)),
        max_size=60,
    )
)
def test_no_connection_is_lost_or_used_twice(steps):
    """Never more than there are; when all have ended, all are free and none waits."""

    async def play():
        requests = Requests(4)
        for step, number in steps:
            if step == "end":
                if requests.open:
                    await requests.end(number)
            elif step == "cancel":
                if requests.tasks:
                    requests.tasks[number % len(requests.tasks)].cancel()
                    await settle()
                    requests.open = [each for each in requests.open if not each[1].is_set()]
            else:
                await requests.begin(step)
            assert requests.shares._free >= 0
            assert sum(requests.shares._held.values()) + requests.shares._free == 4
        for task in requests.tasks:
            task.cancel()
        await asyncio.gather(*requests.tasks, return_exceptions=True)
        assert (requests.shares._free, requests.shares._waiting) == (4, {})

    asyncio.run(play())
