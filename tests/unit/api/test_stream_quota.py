"""The stream quota refuses new streams beyond its limits and names the limit."""

from tailrace_api.fanout.clients.stream_quota import StreamQuota


def test_limits_are_enforced_and_released() -> None:
    """Limits of a tenant and of the process."""
    admission = StreamQuota(3, 2)
    for tenant in ("a", "a"):
        assert admission.refusal(tenant) == ""
        admission.acquire(tenant)
    assert admission.refusal("a") == "tenant_full"
    assert admission.refusal("b") == ""
    admission.acquire("b")
    assert admission.refusal("c") == admission.refusal("a") == "full"
    admission.release("a")
    assert admission.refusal("a") == ""
    for tenant in ("a", "b"):
        admission.release(tenant)
    assert len(admission) == 0
    assert not admission.is_above_average("a")
    assert not admission._tenants


def test_tenants_with_many_streams_are_above_average() -> None:
    """One that has none never is."""
    quota = StreamQuota(100, 100)
    for tenant, count in (("a", 5), ("b", 3), ("c", 1)):
        for _ in range(count):
            quota.acquire(tenant)
    assert [quota.is_above_average(tenant) for tenant in "abcd"] == [True, True, False, False]
