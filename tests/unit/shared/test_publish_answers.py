"""Acknowledgements of a publish are successes, refusals, or reasons to retry."""

import msgspec
import pytest

from tailrace_shared.errors import (
    JetStreamError,
    StoreFailedError,
    TemporarilyUnavailableError,
    WrongLastSequenceError,
)
from tailrace_shared.nats.jetstream import stored_sequence


def refusal(code: int, description: str = "no") -> bytes:
    """Return JetStream's answer that refuses a message with an error code."""
    error = {"code": 400, "err_code": code, "description": description}
    return msgspec.json.encode({"error": error})


def test_a_stored_message_has_its_sequence() -> None:
    """An acknowledgement names the message's place in the stream."""
    assert stored_sequence(b'{"stream": "S", "seq": 7}') == 7


@pytest.mark.parametrize("code", [10005, 10008, 10009, 10023, 10158, 10167])
def test_a_message_that_must_be_sent_again_is_no_refusal(code: int) -> None:
    """Leader elections, a lack of resources and a publish under way pass by themselves."""
    with pytest.raises(TemporarilyUnavailableError):
        stored_sequence(refusal(code))


def test_a_lost_fence_has_an_error_of_its_own() -> None:
    """A writer that was too late must read before it writes again."""
    with pytest.raises(WrongLastSequenceError):
        stored_sequence(refusal(10071))


def test_any_other_code_is_a_refusal() -> None:
    """Sending such a message again would not help."""
    with pytest.raises(JetStreamError) as refused:
        stored_sequence(refusal(10054))
    assert refused.value.code == 10054


@pytest.mark.parametrize("code", [10002, 10023, 10028, 10039, 10047, 10076, 10077])
def test_a_store_that_fails_has_an_error_of_its_own(code: int) -> None:
    """It says why, and the message may be sent again: an operator frees the disk."""
    with pytest.raises(StoreFailedError, match="no space left"):
        stored_sequence(refusal(code, "no space left on device"))


def test_a_limit_of_a_stream_is_a_refusal() -> None:
    """JetStream has the same code for it as for a disk that is full."""
    with pytest.raises(JetStreamError):
        stored_sequence(refusal(10077, "maximum messages per subject exceeded"))
