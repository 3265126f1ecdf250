"""Refused appends: a leader that says that a log is short must prove that its store works."""

from collections.abc import Sequence
from typing import Any, Final

import pytest

from harness.fakes.virtual_time import run_in_virtual_time
from tailrace_shared.errors import JetStreamError, UnavailableError, WrongLastSequenceError
from tailrace_shared.nats.fenced_append import COMMIT_ID, append
from tailrace_shared.nats.jetstream import JetStream, StoredMessage

_EXPECTED: Final = 5
_IN_PROCESS: Final = WrongLastSequenceError(10164, "wrong last sequence")
_DISK_FULL: Final = JetStreamError(10077, "no space left on device")


def lost(last: int) -> WrongLastSequenceError:
    """Return the refusal that names the last sequence of the log."""
    return WrongLastSequenceError(10071, f"wrong last sequence: {last}")


class ScriptedJetStream(JetStream):
    """Answers publishes, proofs of the store and reads of the newest message from scripts.

    Args:
        publishes: for each publish the sequence, or the error.
        newest: for each read the sequence of the newest message, or 0 if there is none.
        proofs: for each proof the error, or None; proofs beyond the script succeed.
    """

    def __init__(
        self,
        publishes: Sequence[int | Exception],
        newest: Sequence[int] = (),
        proofs: Sequence[Exception | None] = (),
    ) -> None:
        self.publishes, self.newest, self.proofs = list(publishes), list(newest), list(proofs)
        self.commit_id = ""

    async def publish(
        self, subject: str, payload: bytes, headers: dict[str, str] | None = None
    ) -> int:
        del subject, payload
        self.commit_id = (headers or {})[COMMIT_ID]
        answer = self.publishes.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def api(self, action: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        del body
        assert action.startswith("STREAM.PURGE.")
        error = self.proofs.pop(0) if self.proofs else None
        if error is not None:
            raise error
        return {"purged": 0}

    async def _get_from_leader(
        self, stream: str, request: dict[str, Any], pauses_s: Sequence[float] = ()
    ) -> StoredMessage | None:
        del stream, request, pauses_s
        sequence = self.newest.pop(0)
        headers = {COMMIT_ID: self.commit_id if sequence == _EXPECTED + 1 else "another"}
        return StoredMessage(sequence, "s", b"", headers, "") if sequence else None

    def append(self, expected: int = _EXPECTED, retry_s: float = 60.0) -> int:
        """Append a commit; return its sequence."""
        appended = append(self, "S", "s", b"x", expected=expected, retry_s=retry_s)
        return run_in_virtual_time(appended)


def test_a_newer_commit_is_a_lost_fence() -> None:
    """It names what the writer has to read."""
    with pytest.raises(WrongLastSequenceError) as refused:
        ScriptedJetStream([lost(9)]).append()
    assert refused.value.last == 9


def test_a_log_that_proves_to_be_deleted_is_a_lost_fence() -> None:
    """The leader has stored what it was asked to, and still has no such log."""
    with pytest.raises(WrongLastSequenceError) as refused:
        ScriptedJetStream([lost(0)], newest=[0, 0]).append()
    assert refused.value.last == 0


def test_a_log_that_proves_to_be_shorter_is_a_lost_fence() -> None:
    """NATS has lost commits; the writer has to read the log anew."""
    with pytest.raises(WrongLastSequenceError) as refused:
        ScriptedJetStream([lost(0)], newest=[0, 3]).append()
    assert refused.value.last == 3


def test_a_leader_whose_disk_is_full_is_not_believed() -> None:
    """Before it gives up it says that every log is empty."""
    jetstream = ScriptedJetStream(
        [lost(0), lost(0), _EXPECTED + 1], newest=[0, _EXPECTED], proofs=[_DISK_FULL]
    )
    assert jetstream.append() == _EXPECTED + 1
    assert not jetstream.publishes


def test_a_new_log_that_is_refused_as_empty_is_appended_again() -> None:
    """A leader without a working store refuses even what it says to be right."""
    assert ScriptedJetStream([lost(0), 1]).append(expected=0) == 1


def test_a_commit_that_is_still_replicated_is_found() -> None:
    """Its first try was not answered, and the second one meets it on its way."""
    jetstream = ScriptedJetStream(
        [UnavailableError("no answer"), _IN_PROCESS, lost(_EXPECTED + 1)], newest=[_EXPECTED + 1]
    )
    assert jetstream.append() == _EXPECTED + 1


def test_a_commit_that_the_leader_does_not_show_yet_is_found() -> None:
    """It refuses the second try because of the first, which it still replicates."""
    jetstream = ScriptedJetStream(
        [UnavailableError("no answer"), lost(_EXPECTED + 1)], newest=[0, _EXPECTED + 1]
    )
    assert jetstream.append() == _EXPECTED + 1


def test_refusals_without_end_are_no_lost_fence() -> None:
    """Whether another writer was first is still unknown."""
    with pytest.raises(UnavailableError):
        ScriptedJetStream([_IN_PROCESS] * 1000).append(retry_s=3.0)
