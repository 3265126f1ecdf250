"""The limits for large outputs in the memory of one worker."""

import pytest

from tailrace_worker.engine.run.output_budget import OutputBudget, OutputMemoryError


def test_a_tenant_has_a_limit_within_that_of_the_worker():
    budget = OutputBudget(10, 6)
    budget.open("a").take(6)
    with pytest.raises(OutputMemoryError, match="MAX_TENANT_PENDING_OUTPUT_BYTES") as of_tenant:
        budget.open("a").take(1)
    with pytest.raises(OutputMemoryError, match="TAILRACE_MAX_PENDING_OUTPUT_BYTES") as of_worker:
        budget.open("b").take(5)
    assert not of_tenant.value.is_permanent
    assert not of_worker.value.is_permanent
    assert budget.used == 6


def test_more_than_the_limit_can_never_be_held():
    with pytest.raises(OutputMemoryError) as caught:
        OutputBudget(10, 6).open("a").take(7)
    assert caught.value.is_permanent


def test_what_is_released_can_be_taken_again():
    budget = OutputBudget(10, 6)
    held = budget.open("a")
    held.take(6)
    held.release()
    held.take(5)
    held.close()
    # The function of an attempt that is over ends late.
    held.take(6)
    assert budget.used == 0
    budget.open("a").take(6)
