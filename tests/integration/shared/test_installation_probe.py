"""The metrics of an installation, as an API replica reads them from NATS."""

import pytest

from tailrace_shared.errors import UnavailableError
from tailrace_shared.installation.demand import DemandReader
from tailrace_shared.installation.probe import InstallationProbe
from tailrace_shared.nats.topology import IDEMPOTENCY, JOBS, topology
from tailrace_shared.stores.stores import Stores


@pytest.fixture
def probe(site):
    stores = Stores.over(site.jetstream, site.subjects)
    demand = DemandReader(site.jetstream, site.subjects, stores)
    return InstallationProbe(site.jetstream, site.settings, demand)


async def read(probe):
    """Read once; return the gauges that have a stream as their label, by name and stream."""
    await probe.read()
    return {
        gauge.name.removeprefix("tailrace_nats_"): {
            stream: value for (stream,), value in gauge.values.items()
        }
        for gauge in probe.gauges()
        if gauge.labels == ("stream",)
    }


async def test_each_stream_of_the_topology_is_watched(site, probe):
    """All but the queue have a size limit, and a full one refuses what needs it."""
    found = await read(probe)
    names = {spec.name.replace(f"{site.settings.prefix}-", "") for spec in topology(site.settings)}
    assert found["replicas_current"].keys() == found["replicas_wanted"].keys() == names
    assert found["stream_bytes"].keys() == names
    assert found["store_ratio"].keys() == names - {JOBS}


async def test_a_full_bucket_has_its_own_ratio(site, probe):
    """A full bucket of idempotency keys refuses starts."""
    name = f"KV_{site.subjects.stream(IDEMPOTENCY)}"
    info = await site.jetstream.api(f"STREAM.INFO.{name}")
    await site.jetstream.api(f"STREAM.UPDATE.{name}", {**info["config"], "max_bytes": 10_000})
    await site.jetstream.publish(f"$KV.{site.subjects.stream(IDEMPOTENCY)}.key", bytes(9_000))
    ratios = (await read(probe))["store_ratio"]
    assert [each for each, ratio in ratios.items() if ratio > 0.85] == [f"KV_{IDEMPOTENCY}"]


async def test_a_stream_that_does_not_exist_hides_no_other(site, probe):
    """Version 1 of the topology has fewer streams."""
    await site.jetstream.api(f"STREAM.DELETE.KV_{site.subjects.stream(IDEMPOTENCY)}")
    found = await read(probe)
    assert f"KV_{IDEMPOTENCY}" not in found["stream_bytes"]
    assert len(found["stream_bytes"]) == len(topology(site.settings)) - 1


async def test_a_stream_without_a_leader_hides_no_other(site, probe, monkeypatch):
    """The states of the others are needed most while one is missing."""
    leaderless = f"KV_{site.subjects.stream(IDEMPOTENCY)}"
    api = site.jetstream.api

    async def answer(action, body=None):
        if action == f"STREAM.INFO.{leaderless}":
            raise UnavailableError("no answer")
        return await api(action, body)

    monkeypatch.setattr(site.jetstream, "api", answer)
    found = await read(probe)
    assert len(found["stream_bytes"]) == len(topology(site.settings)) - 1
