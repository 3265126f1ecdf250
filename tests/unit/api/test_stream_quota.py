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
    assert not admission._tenants
