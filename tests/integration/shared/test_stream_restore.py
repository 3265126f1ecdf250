"""A snapshot is restored however old it is."""

from typing import Any

import pytest

from harness.nats.backup import restore, take_backup
from harness.nats.server import NatsServer
from harness.processes.polling import until
from tailrace_shared.errors import StartupError, TemporarilyUnavailableError
from tailrace_shared.nats.jetstream import JetStream

STREAM = "AGING"
# Longer than a slow machine needs until the backup.
AGE_S = 4


@pytest.fixture
def nats_url(nats_server: NatsServer) -> str:
    return nats_server.url


@pytest.fixture(autouse=True)
async def other_stream(jetstream: JetStream) -> None:
    """NATS removes the folder of an account without streams a moment after it has answered."""
    await jetstream.api("STREAM.CREATE.OTHER", {"name": "OTHER", "subjects": ["other"]})


@pytest.mark.parametrize(
    ("config", "headers"),
    [
        ({"max_age": AGE_S * 1_000_000_000}, {}),
        ({"allow_msg_ttl": True}, {"Nats-TTL": f"{AGE_S}s"}),
    ],
    ids=["age of the stream", "time to live"],
)
async def test_messages_that_expire_after_the_backup_are_not_missed(
    jetstream: JetStream, config: dict[str, Any], headers: dict[str, str]
):
    await _create(jetstream, config)
    for number in range(3):
        await jetstream.publish(f"aging.{number}", b"x", headers)
    backup = await take_backup(jetstream, STREAM)
    assert backup.state["messages"] == 3

    async def have_expired() -> bool:
        return bool((await _state(jetstream))["messages"] == 0)

    await until(have_expired)
    await jetstream.api(f"STREAM.DELETE.{STREAM}")
    await restore(jetstream, backup)
    assert (await _state(jetstream))["last_seq"] == 3


async def test_a_stream_that_lacks_messages_is_refused(jetstream: JetStream):
    await _create(jetstream, {})
    await jetstream.publish("aging.0", b"x")
    backup = await take_backup(jetstream, STREAM)
    await jetstream.api(f"STREAM.DELETE.{STREAM}")
    more = backup._replace(state={**backup.state, "messages": 2})
    with pytest.raises(StartupError, match="has 1 messages, and the backup 2"):
        await restore(jetstream, more)


class _Electing(JetStream):
    """JetStream that cannot serve the first request for a restore."""

    refused = 0

    async def api(self, action: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Send a request, unless it is refused."""
        if action.startswith("STREAM.RESTORE.") and not self.refused:
            self.refused += 1
            raise TemporarilyUnavailableError("JetStream system temporarily unavailable")
        return await super().api(action, body)


async def test_an_announcement_is_repeated_while_a_cluster_elects_a_leader(jetstream: JetStream):
    await _create(jetstream, {})
    await jetstream.publish("aging.0", b"x")
    backup = await take_backup(jetstream, STREAM)
    await jetstream.api(f"STREAM.DELETE.{STREAM}")
    electing = _Electing(jetstream.client)
    await restore(electing, backup)
    assert electing.refused == 1
    assert (await _state(jetstream))["messages"] == 1


async def _create(jetstream: JetStream, config: dict[str, Any]) -> None:
    body = {"name": STREAM, "subjects": ["aging.*"], "storage": "file", **config}
    await jetstream.api(f"STREAM.CREATE.{STREAM}", body)


async def _state(jetstream: JetStream) -> dict[str, Any]:
    state: dict[str, Any] = (await jetstream.api(f"STREAM.INFO.{STREAM}"))["state"]
    return state
