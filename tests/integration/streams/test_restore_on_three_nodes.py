"""Streams are restored in a cluster while it elects a leader."""

import nats
import pytest

from harness.nats.backup import restore, take_backup
from harness.nats.cluster import NatsCluster
from harness.nats.site import create_streams
from tailrace_shared.nats.jetstream import JetStream
from tailrace_shared.nats.topology import StreamSpec


@pytest.mark.timeout(150)
async def test_a_stream_is_restored_although_no_server_answers_at_first(tmp_path) -> None:
    """The first announcement meets the frozen meta leader; another server is elected."""
    with NatsCluster(tmp_path) as cluster:
        leader = cluster.meta_leader()
        client = await nats.connect(cluster.urls[leader - 1])
        jetstream = JetStream(client)
        await create_streams(jetstream, [StreamSpec(name="S", subjects=["s"])])
        for number in range(100):
            await jetstream.publish("s", b"%d" % number)
        backup = await take_backup(jetstream, "S")
        await jetstream.api("STREAM.DELETE.S")
        cluster.freeze(leader)
        await restore(jetstream, backup)
        # Before the former leader is back: until it knows the new one, it answers in its place.
        info = await jetstream.api("STREAM.INFO.S")
        assert info["state"]["messages"] == 100
        cluster.thaw(leader)
        await client.close()
