"""The topology is applied by every service at every start, and says what does not fit."""

import asyncio

import msgspec
import pytest

from tailrace_shared.duration import Duration
from tailrace_shared.errors import JetStreamError, TopologyMismatchError
from tailrace_shared.nats.jetstream import JetStream, connect
from tailrace_shared.nats.provision import ensure
from tailrace_shared.nats.topology import StreamSpec, topology


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
    """Nor does a service that was configured alike."""
    before = {
        spec.name: await site.jetstream.api(f"STREAM.INFO.{spec.name}")
        for spec in topology(site.settings)
    }
    await ensure(site.jetstream, topology(site.settings))
    for name, info in before.items():
        again = await site.jetstream.api(f"STREAM.INFO.{name}")
        assert (again["config"], again["created"]) == (info["config"], info["created"])


async def test_many_services_may_start_at_once(site_settings):
    """Each applies the same, none fails."""
    clients = await asyncio.gather(*(connect(site_settings, f"test {n}") for n in range(8)))
    specs = topology(site_settings)
    await asyncio.gather(*(ensure(JetStream(client), specs) for client in clients))
    jetstream = JetStream(clients[0])
    assert {spec.name for spec in specs} <= await names(jetstream)
    for spec in specs:
        await jetstream.api(f"STREAM.DELETE.{spec.name}")
    await asyncio.gather(*(client.close() for client in clients))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("retention", "interest"),
        ("storage", "memory"),
        ("discard", "new"),
        ("max_age", 3_600_000_000_000),
        ("max_msgs_per_subject", 5),
        ("duplicate_window", 2_000_000_000),
        ("allow_direct", False),
        ("allow_rollup_hdrs", True),
        ("allow_msg_ttl", True),
        ("deny_delete", True),
        ("subjects", ["{prefix}.elsewhere.>"]),
        ("republish", {"src": "{prefix}.log.>", "dest": "{prefix}.elsewhere.>"}),
        ("republish", None),
    ],
)
async def test_a_stream_that_exists_otherwise_is_named_with_the_field(site, field, value):
    """Also where Tailrace leaves a field at the server's default."""
    events = next(spec for spec in topology(site.settings) if spec.name == site.events)
    await site.jetstream.api(f"STREAM.DELETE.{events.name}")
    text = msgspec.json.encode(value).decode().replace("{prefix}", site.settings.prefix)
    other = {**events.request(), field: msgspec.json.decode(text)}
    await site.jetstream.api(f"STREAM.CREATE.{events.name}", other)
    with pytest.raises(TopologyMismatchError) as caught:
        await ensure(site.jetstream, topology(site.settings))
    assert f"stream {events.name} exists with {field} = " in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_a_setting_that_was_changed_is_reported_not_applied(site):
    """Shortening the age of a log would delete from it."""
    changed = msgspec.structs.replace(site.settings, events_max_age=Duration(60))
    with pytest.raises(TopologyMismatchError, match="max_age = 604800000000000, but the settings"):
        await ensure(site.jetstream, topology(changed))
    info = await site.jetstream.api(f"STREAM.INFO.{site.events}")
    assert info["config"]["max_age"] == 604800 * 10**9


async def test_what_the_server_cannot_do_is_a_startup_error(site):
    """Three copies need three servers."""
    spec = StreamSpec(name=f"{site.settings.prefix}-x", subjects=["x"], num_replicas=3)
    with pytest.raises(TopologyMismatchError, match="cannot create stream"):
        await ensure(site.jetstream, [spec])


async def test_a_refusal_has_jetstreams_code(site):
    """For those who must tell one from another."""
    with pytest.raises(JetStreamError, match="stream not found") as caught:
        await site.jetstream.api("STREAM.INFO.no-such-stream")
    assert caught.value.code == 10059
