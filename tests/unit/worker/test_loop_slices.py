"""Long computations share the iterations of an event loop."""

import asyncio

from tailrace_worker.engine.tasks.loop_slices import LoopSlices


async def test_long_computations_are_spread_over_iterations():
    """Of fifty that take six milliseconds each, two fit into an iteration."""
    slices, iteration, computed = LoopSlices(asyncio.get_running_loop()), 0, list[int]()

    async def count_iterations():
        nonlocal iteration
        while True:
            iteration += 1
            await asyncio.sleep(0)

    async def compute():
        await slices.wait()
        computed.append(iteration)
        slices.add(0.006)

    counter = asyncio.create_task(count_iterations())
    await asyncio.gather(*(compute() for _ in range(50)))
    counter.cancel()
    assert len(computed) == 50
    assert max(computed.count(each) for each in computed) == 2


async def test_short_computations_are_not_counted():
    """The usual turn of an execution costs a comparison."""
    slices = LoopSlices(asyncio.get_running_loop())
    for _ in range(1000):
        slices.add(0.0005)
    assert not slices.is_full
