"""Who is in stays in; who comes beyond a limit is told which."""

from tailrace_api.fanout.clients.stream_quota import StreamQuota


def test_limits_are_kept_and_given_back() -> None:
    """Those of a tenant and those of the process."""
    admission = StreamQuota(3, 2)
    for tenant in ("a", "a"):
        assert admission.refusal(tenant) == ""
        admission.enter(tenant)
    assert admission.refusal("a") == "tenant_full"
    assert admission.refusal("b") == ""
    admission.enter("b")
    assert admission.refusal("c") == admission.refusal("a") == "full"
    admission.leave("a")
    assert admission.refusal("a") == ""
    for tenant in ("a", "b"):
        admission.leave(tenant)
    assert len(admission) == 0
    assert not admission._tenants
