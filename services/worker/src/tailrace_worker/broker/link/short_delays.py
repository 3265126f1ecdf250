"""Delays too short for a message schedule, which JetStream fires up to 0.3 s late.

Such a message is stored on its queue at once, with the time before which it must not run. The
worker that gets it holds it until then, with heartbeats like those of a message that runs. If the
worker dies, JetStream delivers the message again, and the next worker holds it.
"""

import time
from typing import Final

MAX_MS: Final = 500
"""Longer delays are message schedules."""
_HEADER: Final = "Tailrace-Not-Before"


def short_delay_headers(delay_ms: int) -> dict[str, str]:
    """Return the headers of a message that must not run for so many milliseconds."""
    return {_HEADER: f"{time.time() + delay_ms / 1000:.4f}"} if delay_ms > 0 else {}


def seconds_left(headers: dict[str, str]) -> float:
    """Return for how long a message must still be held; 0.0 or less if it may run."""
    if _HEADER not in headers:
        return 0.0
    try:
        left = float(headers[_HEADER]) - time.time()
    except ValueError:
        return 0.0
    # A producer whose clock is ahead must not delay a message for ever.
    return min(left, MAX_MS / 1000)
