"""The topology, which every service applies at its start."""

import asyncio
from functools import partial

import msgspec
import pytest

from tailrace_shared.errors import (
    JetStreamError,
    StartupError,
    TemporarilyUnavailableError,
    TopologyMismatchError,
)
from tailrace_shared.nats.jetstream import JetStream, connect
from tailrace_shared.nats.provision import apply, ensure, plan
from tailrace_shared.nats.startup import StartupLimit
from tailrace_shared.nats.topology import EPOCH_KEY, EVENTS, KEYS, StreamSpec, topology


async def names(jetstream):
    """Return the names of all streams."""
    answer = await jetstream.api("STREAM.LIST")
    return {stream["config"]["name"] for stream in answer["streams"] or []}


async def test_all_streams_and_buckets_are_created(site):
    """Under the installation's own prefix."""
    expected = {spec.name for spec in topology(site.settings)}
    assert expected <= await names(site.jetstream)
    assert all(site.settings.prefix in name for name in expected)


async def test_applying_again_changes_nothing(site):
    """Another service with the same settings changes nothing either."""
    before = {
        spec.name: await site.jetstream.api(f"STREAM.INFO.{spec.name}")
        for spec in topology(site.settings)
    }
    await ensure(site.jetstream, topology(site.settings))
    for name, info in before.items():
        again = await site.jetstream.api(f"STREAM.INFO.{name}")
        assert (again["config"], again["created"]) == (info["config"], info["created"])


async def test_many_services_may_start_at_once(site_settings):
    """Each applies the same, none fails; a cluster that is slow to create them is asked again."""
    clients = await asyncio.gather(*(connect(site_settings, f"test {n}") for n in range(8)))
    specs = topology(site_settings)
    limit = StartupLimit(60.0)
    await asyncio.gather(
        *(limit.retry(partial(ensure, JetStream(client), specs)) for client in clients)
    )
    jetstream = JetStream(clients[0])
    assert {spec.name for spec in specs} <= await names(jetstream)
    for spec in specs:
        await jetstream.api(f"STREAM.DELETE.{spec.name}")
    await asyncio.gather(*(client.close() for client in clients))


async def recreate(site, stream, **fields):
    """Create a stream of the topology again, with other values of some fields."""
    spec = next(
        spec for spec in topology(site.settings) if spec.name == site.subjects.stream(stream)
    )
    await site.jetstream.api(f"STREAM.DELETE.{spec.name}")
    text = msgspec.json.encode(fields).decode().replace("{prefix}", site.settings.prefix)
    body = {**spec.request(), **msgspec.json.decode(text)}
    await site.jetstream.api(f"STREAM.CREATE.{spec.name}", body)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("retention", "interest"),
        ("storage", "memory"),
        ("max_msgs_per_subject", 5),
        ("allow_direct", False),
        ("subjects", ["{prefix}.elsewhere.>"]),
        ("republish", {"src": "{prefix}.log.>", "dest": "{prefix}.elsewhere.>"}),
        ("republish", None),
    ],
)
async def test_a_difference_that_does_harm_stops_the_start(site, field, value):
    """The error names the stream and the field."""
    await recreate(site, EVENTS, **{field: value})
    with pytest.raises(TopologyMismatchError) as caught:
        await ensure(site.jetstream, topology(site.settings))
    assert f"stream {site.events} exists with {field} = " in str(caught.value)
    assert "tailrace topology plan" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("discard", "old"),
        ("max_bytes", 1_000_000_000),
        ("max_age", 3_600_000_000_000),
        ("duplicate_window", 2_000_000_000),
        ("allow_rollup_hdrs", True),
        ("allow_msg_ttl", True),
        ("deny_delete", True),
        ("subjects", ["{prefix}.log.*.*", "{prefix}.more.>"]),
    ],
)
async def test_a_difference_that_does_no_harm_is_returned(site, field, value):
    """A newer or older version may have made it, or an operator."""
    await recreate(site, EVENTS, **{field: value})
    tolerated = await ensure(site.jetstream, topology(site.settings))
    assert [(each.stream, each.field) for each in tolerated] == [(site.events, field)]


async def test_a_plan_brings_version_1_to_version_2_and_back(site):
    """Version 1 is that of Tailrace 0.2, whose log expires by age."""
    v1, v2 = topology(site.settings, 1), topology(site.settings, 2)
    jetstream = site.jetstream
    assert await plan(jetstream, v2) == []
    back = await plan(jetstream, v1)
    assert f"update stream {site.events}: max_age unlimited -> 604800s" in lines(back)
    await apply(jetstream, back)
    assert await plan(jetstream, v1) == []
    # Services of this release run on version 1, too.
    assert {each.field for each in await ensure(jetstream, v2)} == {
        "max_age",
        "max_bytes",
        "discard",
    }
    forth = await plan(jetstream, v2)
    assert f"update stream {site.events}: metadata version 1 -> version 2" in lines(forth)
    await apply(jetstream, forth)
    assert await plan(jetstream, v2) == []
    assert await ensure(jetstream, v2) == []


async def test_a_plan_creates_what_is_missing(site):
    """Applying it again changes nothing."""
    name = f"KV_{site.subjects.stream(KEYS)}"
    await site.jetstream.api(f"STREAM.DELETE.{name}")
    changes = await plan(site.jetstream, topology(site.settings))
    assert lines(changes) == [f"create stream {name}"]
    await apply(site.jetstream, changes)
    await apply(site.jetstream, changes)
    assert await plan(site.jetstream, topology(site.settings)) == []


async def test_a_plan_names_what_cannot_be_changed_and_changes_nothing(site):
    """JetStream does not change the storage of a stream."""
    await recreate(site, EVENTS, storage="memory", max_age=3_600_000_000_000)
    changes = await plan(site.jetstream, topology(site.settings))
    assert any("cannot be changed" in line for line in lines(changes))
    with pytest.raises(TopologyMismatchError, match='storage "memory" -> "file"'):
        await apply(site.jetstream, changes)
    info = await site.jetstream.api(f"STREAM.INFO.{site.events}")
    assert info["config"]["max_age"] == 3_600_000_000_000


def lines(changes):
    """Return the lines of a plan."""
    return [line for change in changes for line in change.lines()]


async def test_the_epoch_of_ids_survives_a_change_of_the_stream(site):
    """It is the time of creation, recorded once in the stream's metadata."""
    first = await site.jetstream.api(f"STREAM.INFO.{site.events}")
    epoch = first["config"]["metadata"][EPOCH_KEY]
    assert epoch == (await site.log.edge()).epoch
    await apply(site.jetstream, await plan(site.jetstream, topology(site.settings, 1)))
    assert (await site.log.edge()).epoch == epoch


async def test_a_stream_of_version_0_2_keeps_its_epoch(site):
    """Its ids were made with the time of creation; a service records that at its start."""
    await recreate(site, EVENTS, metadata={})
    before = (await site.log.edge()).epoch
    await ensure(site.jetstream, topology(site.settings))
    info = await site.jetstream.api(f"STREAM.INFO.{site.events}")
    assert info["config"]["metadata"][EPOCH_KEY] == before == (await site.log.edge()).epoch


async def test_what_the_server_cannot_do_is_a_startup_error(site):
    """Five copies need five servers."""
    spec = StreamSpec(name=f"{site.settings.prefix}-x", subjects=["x"], num_replicas=5)
    # A cluster cannot tell that its other servers will never come.
    refusal = "cannot create stream" if site.settings.nats_replicas == 1 else "no suitable peers"
    with pytest.raises(StartupError, match=refusal):
        await StartupLimit(0.5).retry(lambda: ensure(site.jetstream, [spec]))


async def test_a_store_that_cannot_be_opened_now_is_tried_again(site_settings, monkeypatch):
    """Services start as soon as it can."""
    client = await connect(site_settings, "test")
    jetstream = JetStream(client)
    api, failures = jetstream.api, [JetStreamError(10049, "error creating store for stream")]

    async def fail_once(action, body=None):
        if failures and action.startswith("STREAM.CREATE"):
            raise failures.pop()
        return await api(action, body)

    monkeypatch.setattr(jetstream, "api", fail_once)
    spec = topology(site_settings)[0]
    with pytest.raises(TemporarilyUnavailableError, match="error creating store"):
        await ensure(jetstream, [spec])
    await StartupLimit(60.0).retry(lambda: ensure(jetstream, [spec]))
    assert spec.name in await names(jetstream)
    await api(f"STREAM.DELETE.{spec.name}")
    await client.close()


async def test_a_refusal_has_jetstreams_code(site):
    """Callers decide by the code."""
    with pytest.raises(JetStreamError, match="stream not found") as caught:
        await site.jetstream.api("STREAM.INFO.no-such-stream")
    assert caught.value.code == 10059
