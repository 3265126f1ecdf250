"""Who is in stays in; who comes beyond a limit is told which."""

from tailrace_api.fanout.clients.stream_quota import StreamQuota


def test_limits_are_kept_and_given_back() -> None:
    """Those of a tenant and those of the process."""
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
