"""The event loop of a worker outlives what node functions do to it."""

import asyncio
import threading

import pytest
import uvloop

from tailrace_worker.engine.tasks.supervision import run_until_stopped


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit, BaseException])
def test_a_task_of_a_node_cannot_stop_the_loop(new_loop, error):
    """A node function may start tasks of its own; the loop is shared with all executions."""
    loop = new_loop()
    thread = threading.Thread(target=run_until_stopped, args=[loop])
    thread.start()

    async def fail():
        raise error

    async def start():
        task = asyncio.create_task(fail())
        with pytest.raises(error):
            await task

    async def answer():
        return "goes on"

    try:
        asyncio.run_coroutine_threadsafe(start(), loop).result(60)
        assert asyncio.run_coroutine_threadsafe(answer(), loop).result(60) == "goes on"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(60)
        loop.close()
