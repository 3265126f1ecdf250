"""Fair shares of a worker."""

from hypothesis import given
from hypothesis import strategies as st

from tailrace_worker.engine.fairness.fair_share import FairShare


def filled(share, *tenants):
    """Admit tenants in turn until none is admitted; return the slots of each."""
    has = dict.fromkeys(tenants, 0)
    while admitted := [tenant for tenant in tenants if share.admits(tenant)]:
        for tenant in admitted:
            if share.admits(tenant):
                share.acquire(tenant)
                has[tenant] += 1
    return has


def test_one_tenant_alone_leaves_room_for_the_next():
    """About a third of the slots, with alpha = 2."""
    share = FairShare(64)
    assert filled(share, "a") == {"a": 43}
    assert share.admits("b")


def test_tenants_that_alternate_get_equal_shares():
    """This holds for any number of tenants."""
    assert set(filled(FairShare(64), *"ab").values()) == {26}
    has = filled(FairShare(64), *"abcdefgh")
    assert max(has.values()) - min(has.values()) <= 1
    assert sum(has.values()) <= 64


def test_a_new_tenant_gets_the_released_slots():
    """The tenant that holds most slots is admitted last."""
    share = FairShare(9)
    assert filled(share, "a") == {"a": 7}
    assert filled(share, "b") == {"b": 2}
    assert not share.admits("a")
    for _ in range(4):
        share.release("a")
    assert not share.admits("a") or share.free >= 2
    assert share.admits("b")


def test_the_smallest_worker_serves_one_tenant():
    """With one slot, the first tenant that comes."""
    share = FairShare(1)
    assert filled(share, "a") == {"a": 1}
    assert not share.admits("b")
    share.release("a")
    assert share.admits("b")


@given(
    st.integers(1, 40),
    st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=200),
)
def test_a_slot_has_one_holder_and_a_tenant_without_one_gets_a_free_one(slots, moves):
    """This holds in any order of arrivals and releases."""
    share = FairShare(slots)
    has = {"a": 0, "b": 0, "c": 0}
    for tenant, comes in moves:
        if comes and share.admits(tenant):
            share.acquire(tenant)
            has[tenant] += 1
        elif not comes and has[tenant]:
            share.release(tenant)
            has[tenant] -= 1
        assert share.free == slots - sum(has.values()) >= 0
        for each, count in has.items():
            assert share.admits(each) == (share.free > 0 and count <= 2 * share.free)
            assert not share.free or count or share.admits(each)
