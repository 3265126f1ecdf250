"""JetStream's refusals as Dramatiq's errors."""

from dramatiq.errors import BrokerError

from tailrace_shared.errors import JetStreamError


def refused(error: JetStreamError) -> BrokerError:
    """Return Dramatiq's error for a refusal, with the refusal as its cause."""
    wrapped = BrokerError(str(error))
    wrapped.__cause__ = error
    return wrapped


def refusal_code(error: BrokerError) -> int | None:
    """Return JetStream's error code, or None if the error is not a refusal by JetStream."""
    cause = error.__cause__
    return cause.code if isinstance(cause, JetStreamError) else None
