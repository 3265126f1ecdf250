"""Large bodies are decoded one at a time, and a tenant's many do not hold up those of others."""

import asyncio

import pytest

from tailrace_api.web.body_budget import BodyBudget
from tailrace_api.web.problems import RefusedError


async def test_a_tenant_with_many_bodies_delays_others_by_one() -> None:
    """Though all of its bodies came first."""
    budget, order = BodyBudget(10, 10), []

    async def decode(tenant: str) -> None:
        async with budget.turn(tenant):
            order.append(tenant)
            await asyncio.sleep(0)

    await asyncio.gather(*(decode(tenant) for tenant in ["many"] * 5 + ["few"]))
    assert order[:3] == ["many", "few", "many"]


def test_bytes_that_are_not_needed_any_more_do_not_count() -> None:
    budget = BodyBudget(10, 6)
    budget.add("a", 6)
    with pytest.raises(RefusedError, match="MAX_TENANT_PENDING_BODY_BYTES"):
        budget.add("a", 1)
    with pytest.raises(RefusedError, match="MAX_PENDING_BODY_BYTES"):
        budget.add("b", 5)
    budget.remove("a", 6)
    budget.add("b", 6)
    assert budget.used == 6
