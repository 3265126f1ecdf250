"""Count the messages that streams have taken, to assert that a request stored none."""

from tailrace_shared.nats.jetstream import JetStream


async def stored(jetstream: JetStream) -> dict[str, int]:
    """Return how many messages each stream has ever taken."""
    answer = await jetstream.api("STREAM.LIST")
    return {stream["config"]["name"]: stream["state"]["last_seq"] for stream in answer["streams"]}


async def taken(jetstream: JetStream, before: dict[str, int]) -> dict[str, int]:
    """Return how many messages each stream has taken since ``before``, where it took any."""
    now = await stored(jetstream)
    return {name: last - before.get(name, 0) for name, last in now.items() if last != before[name]}
