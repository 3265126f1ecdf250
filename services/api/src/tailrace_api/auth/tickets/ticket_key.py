"""The key of tickets: made once for an installation, and kept where all replicas find it."""

import secrets
from typing import Final

from tailrace_shared.nats.bucket import Bucket

_NAME: Final = "tickets"
_BYTES: Final = 32


async def ticket_key(bucket: Bucket) -> bytes:
    """Return the installation's key; the first who asks makes it.

    Raises:
        UnavailableError: NATS did not answer in time.
        JetStreamError: JetStream refused.
    """
    # Of replicas that start together one creates it, and all read what that was.
    if (entry := await bucket.get_newest(_NAME)) is None:
        await bucket.create(_NAME, secrets.token_bytes(_BYTES))
        entry = await bucket.get_newest(_NAME)
    if entry is None:
        raise RuntimeError("the key of tickets was deleted while it was made")
    return entry.value
