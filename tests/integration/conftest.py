"""Fixtures of the integration tests."""

from collections.abc import AsyncIterator

import pytest

from harness.nats.deployment import NatsDeployment
from harness.nats.site import Site, create_streams, delete_streams
from tailrace_shared.ids import new_token
from tailrace_shared.nats.jetstream import JetStream, connect
from tailrace_shared.nats.topology import topology
from tailrace_shared.settings import CommonSettings
from tailrace_shared.subjects import Subjects


@pytest.fixture
def site_settings(shared_nats: NatsDeployment) -> CommonSettings:
    """Return settings whose subject prefix no other test uses."""
    return CommonSettings(
        nats_url=shared_nats.url,
        nats_replicas=shared_nats.replicas,
        prefix=f"t-{new_token()[:8]}",
    )


@pytest.fixture
async def site(site_settings: CommonSettings) -> AsyncIterator[Site]:
    """Create all streams and buckets under the test's own prefix; delete them afterwards."""
    client = await connect(site_settings, "test")
    jetstream = JetStream(client)
    specs = topology(site_settings)
    await create_streams(jetstream, specs)
    yield Site(site_settings, client, jetstream, Subjects(site_settings.prefix))
    await delete_streams(jetstream, specs)
    await client.close()
