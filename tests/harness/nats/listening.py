"""Subscriptions in a cluster, where a server hears later of those that clients of others make."""

from typing import Final

import nats.errors
from nats.aio.client import Client

_PAUSE_S: Final = 0.5


async def until_leader_sends(client: Client, stream: str) -> None:
    """Wait until the leader of a stream sends to the subscriptions that a client has made.

    Servers tell each other of subscriptions in their order, and one without is not sent to: an
    answer to a later subscription proves that the earlier ones are known.
    """
    subscription = await client.subscribe(inbox := client.new_inbox())
    while True:
        await client.publish(f"$JS.API.STREAM.INFO.{stream}", b"", reply=inbox)
        try:
            await subscription.next_msg(_PAUSE_S)
        except nats.errors.TimeoutError:
            continue
        break
    await subscription.unsubscribe()
