"""Acknowledgements of a publish are successes, refusals, or reasons to retry."""

import msgspec
import pytest

from tailrace_shared.errors import (
    JetStreamError,
    TemporarilyUnavailableError,
    WrongLastSequenceError,
)
from tailrace_shared.nats.jetstream import stored_sequence


def refusal(code: int) -> bytes:
    """Return JetStream's answer that refuses a message with an error code."""
    return msgspec.json.encode({"error": {"code": 400, "err_code": code, "description": "no"}})


def test_a_stored_message_has_its_sequence() -> None:
    """An acknowledgement names the message's place in the stream."""
    assert stored_sequence(b'{"stream": "S", "seq": 7}') == 7


@pytest.mark.parametrize("code", [10008, 10009, 10023, 10158, 10167])
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
        stored_sequence(refusal(10077))
    assert refused.value.code == 10077
