"""Streams and buckets have a size limit, and a full one refuses messages with a clear error."""

import msgspec
import pytest

from tailrace_shared.errors import OutputTooLargeError, StoreFullError, TopologyMismatchError
from tailrace_shared.nats.health import Health
from tailrace_shared.nats.provision import apply, ensure, plan
from tailrace_shared.nats.topology import EVENTS, JOBS, RUNS, topology
from tailrace_shared.stores.stores import Stores

MIB = 1024 * 1024
SMALL = 4 * MIB


def limited(settings, size):
    """Return settings with another limit."""
    return msgspec.structs.replace(settings, max_store_bytes=size)


async def limit(site, size):
    """Apply a limit."""
    specs = topology(limited(site.settings, size))
    await apply(site.jetstream, await plan(site.jetstream, specs))


async def fill(site, execution="e"):
    """Append to the log until it is full."""
    subject = site.subjects.log("t", execution)
    for _ in range(100):
        await site.jetstream.publish(subject, b"x" * 100_000)


def test_shares_are_all_of_the_space(site_settings):
    specs = [spec for spec in topology(limited(site_settings, 1024**3)) if JOBS not in spec.name]
    assert sum(spec.max_bytes for spec in specs) == pytest.approx(1024**3, rel=0.02)
    assert all(spec.max_bytes > 0 and spec.discard == "new" for spec in specs)


def test_version_one_and_zero_have_no_limit(site_settings):
    unlimited = [*topology(site_settings, 1), *topology(limited(site_settings, 0))]
    assert {spec.max_bytes for spec in unlimited} == {-1}


async def test_a_full_log_refuses_commits_until_there_is_room(site):
    """The error and the probe of readiness name the setting, and nothing is deleted."""
    await limit(site, SMALL)
    health = Health.over(site.jetstream, site.settings)
    with pytest.raises(StoreFullError, match="TAILRACE_MAX_STORE_BYTES"):
        await fill(site)
    info = await site.jetstream.api(f"STREAM.INFO.{site.events}")
    assert info["state"]["first_seq"] == 1
    assert "TAILRACE_MAX_STORE_BYTES" in await health.store.probe()
    await limit(site, 10 * SMALL)
    assert await health.store.probe() == ""
    await site.jetstream.publish(site.subjects.log("t", "e"), b"x")


async def test_a_full_store_of_outputs_fails_steps_and_nothing_else(site):
    await limit(site, SMALL)
    outputs = Stores.over(site.jetstream, site.subjects, 16 * MIB).outputs
    with pytest.raises(OutputTooLargeError, match="TAILRACE_MAX_STORE_BYTES"):
        await outputs.put("t", "e", "a", 1, b"1" * 3 * MIB)
    assert await Health.over(site.jetstream, site.settings).store.probe() == ""


async def test_a_limit_below_what_is_stored_is_refused(site):
    """JetStream would take it, and refuse every message from then on."""
    await limit(site, 10 * SMALL)
    await site.jetstream.publish(site.subjects.log("t", "e"), b"x" * 900_000)
    await site.jetstream.publish(site.subjects.log("t", "e"), b"x" * 900_000)
    with pytest.raises(TopologyMismatchError, match="TAILRACE_MAX_STORE_BYTES") as refused:
        await limit(site, SMALL)
    assert site.events in str(refused.value)


async def test_services_run_on_streams_with_other_limits(site):
    """And on a NATS that has less space than the limit: its own limit counts then."""
    for name in (EVENTS, RUNS):
        prefix = "KV_" if name == RUNS else ""
        await site.jetstream.api(f"STREAM.DELETE.{prefix}{site.subjects.stream(name)}")
    specs = topology(limited(site.settings, 2**60))
    tolerated = await ensure(site.jetstream, specs)
    assert {each.field for each in tolerated} == {"max_bytes"}


async def test_a_limit_that_this_nats_cannot_reserve_names_the_setting(site):
    specs = topology(limited(site.settings, 2**60))
    changes = await plan(site.jetstream, specs)
    with pytest.raises(TopologyMismatchError, match="lower the setting") as refused:
        await apply(site.jetstream, changes)
    assert "TAILRACE_MAX_STORE_BYTES" in str(refused.value)


async def test_streams_that_shrink_give_their_space_to_those_that_grow(site, monkeypatch):
    """JetStream refuses to reserve more than it has, even for a moment."""
    await limit(site, 10 * SMALL)
    events, runs = (
        spec for spec in topology(limited(site.settings, 0)) if spec.name.endswith((EVENTS, RUNS))
    )
    grown, shrunk = (
        msgspec.structs.replace(spec, max_bytes=size, discard="new")
        for spec, size in ((events, 20 * SMALL), (runs, SMALL))
    )
    changes = await plan(site.jetstream, [grown, shrunk])
    asked, api = [], site.jetstream.api

    async def record(action, body=None):
        asked.append(action)
        return await api(action, body)

    monkeypatch.setattr(site.jetstream, "api", record)
    await apply(site.jetstream, changes)
    updated = [action.split(".")[-1] for action in asked if action.startswith("STREAM.UPDATE")]
    assert updated == [shrunk.name, grown.name]
