"""The key that signs tickets, created once per installation and shared through NATS."""

import secrets
from typing import Final

from tailrace_shared.nats.bucket import Bucket

_NAME: Final = "tickets"
_BYTES: Final = 32


async def ticket_key(bucket: Bucket) -> bytes:
    """Return the installation's key; create it if there is none.

    Raises:
        UnavailableError: NATS did not respond in time.
        JetStreamError: JetStream returned an error.
    """
    # Replicas may start at the same time: one creation wins, and all replicas read that key.
    if (entry := await bucket.get_newest(_NAME)) is None:
        await bucket.create(_NAME, secrets.token_bytes(_BYTES))
        entry = await bucket.get_newest(_NAME)
    if entry is None:
        raise RuntimeError("the ticket key was deleted during its creation")
    return entry.value
