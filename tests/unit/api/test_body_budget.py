"""The limits for the request bodies in the memory of one process."""

import pytest

from tailrace_api.web.body_budget import BodyBudget
from tailrace_api.web.problems import RefusedError
from tailrace_shared.process.fair_threads import FairThreads


def test_bytes_that_are_not_needed_any_more_do_not_count() -> None:
    budget = BodyBudget(10, 6, FairThreads())
    budget.add("a", 6)
    with pytest.raises(RefusedError, match="MAX_TENANT_PENDING_BODY_BYTES"):
        budget.add("a", 1)
    with pytest.raises(RefusedError, match="MAX_PENDING_BODY_BYTES"):
        budget.add("b", 5)
    budget.remove("a", 6)
    budget.add("b", 6)
    assert budget.used == 6
