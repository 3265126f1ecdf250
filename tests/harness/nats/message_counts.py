"""Count the messages that streams have taken, to assert that a request stored none."""

from typing import Final

from tailrace_shared.nats.jetstream import JetStream
from tailrace_shared.nats.topology import LEASES

# Health probes of the services store here at any time.
_PROBED: Final = f"KV_{LEASES}"


async def stored(jetstream: JetStream) -> dict[str, int]:
    """Return how many messages each stream has ever taken."""
    answer = await jetstream.api("STREAM.LIST")
    streams = {each["config"]["name"]: each["state"]["last_seq"] for each in answer["streams"]}
    streams.pop(_PROBED, None)
    return streams


async def taken(jetstream: JetStream, before: dict[str, int]) -> dict[str, int]:
    """Return how many messages each stream has taken since ``before``, where it took any."""
    now = await stored(jetstream)
    return {name: last - before.get(name, 0) for name, last in now.items() if last != before[name]}
