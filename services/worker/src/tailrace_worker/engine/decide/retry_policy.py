"""Compute the delay before the next attempt of a failed step. Pure."""

from tailrace_shared.duration import Duration
from tailrace_shared.workflow.definition import Retry


def retry_delay(policy: Retry | None, failures: int, draw: float) -> float | None:
    """Return the delay before the next attempt in seconds, or None if there is none.

    The delays grow geometrically up to the policy's maximum. With jitter each is drawn from the
    upper half of its length, so that steps that failed together are not retried together.

    Args:
        policy: the node's policy; None allows one attempt.
        failures: number of failed attempts, at least 1.
        draw: a random number in [0, 1).
    """
    if policy is None or failures >= policy.max_attempts:
        return None
    initial, longest = Duration.parse(policy.initial), Duration.parse(policy.max)
    try:
        grown = initial * policy.factor ** (failures - 1)
    except OverflowError:
        grown = longest if initial else initial
    delay = min(grown, longest)
    return delay * (0.5 + draw / 2) if policy.jitter else delay
