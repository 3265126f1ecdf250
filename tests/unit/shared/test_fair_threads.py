"""Long computations in threads, in turns of the tenants."""

import asyncio
import threading
import time

from tailrace_shared.process.fair_threads import FairThreads
from tailrace_shared.workflow import pace


async def test_a_tenant_with_many_computations_delays_others_by_one():
    """Though all of its calls came first."""
    threads = FairThreads()
    order: list[str] = []
    tenants = ["many"] * 5 + ["few"]
    await asyncio.gather(*(threads.run(tenant, order.append, tenant) for tenant in tenants))
    assert order == ["many", "few", "many", "many", "many", "many"]


async def test_a_long_computation_lets_those_of_other_tenants_go_first():
    """Here it ends only once another one has run."""
    threads, has_run, has_begun = FairThreads(), threading.Event(), threading.Event()

    def compute() -> bool:
        has_begun.set()
        until = time.monotonic() + 60
        while not has_run.is_set() and time.monotonic() < until:
            pace.pause()
        return has_run.is_set()

    long = asyncio.create_task(threads.run("many", compute))
    await asyncio.to_thread(has_begun.wait)
    await threads.run("few", has_run.set)
    assert await long
