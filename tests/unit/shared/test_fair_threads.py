"""Long computations in threads, in turns of the tenants."""

import asyncio

from tailrace_shared.process.fair_threads import FairThreads


async def test_a_tenant_with_many_computations_delays_others_by_one():
    """Though all of its calls came first."""
    threads = FairThreads()
    order: list[str] = []
    tenants = ["many"] * 5 + ["few"]
    await asyncio.gather(*(threads.run(tenant, order.append, tenant) for tenant in tenants))
    assert order == ["many", "few", "many", "many", "many", "many"]
