"""Fenced appends to an execution's log.

A commit names the last sequence that its writer has seen (optimistic concurrency, ADR-33). Of two
writers at the same place one wins, and the other gets an error. A publish whose acknowledgement
was lost is retried; the commit's own id then tells "already stored" from "another writer's".

A lost fence is reported only if it names a newer commit, or if the log has proved to be shorter
than its writer has seen. A leader of several replicas also refuses an append while it still
replicates another one to the same log, which may be an earlier try of the same commit. And a leader
whose disk is full may say that the log is empty before it gives up.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Final

from tailrace_shared.errors import UnavailableError, WrongLastSequenceError
from tailrace_shared.ids import new_token
from tailrace_shared.nats.jetstream import EXPECTED_LAST_SUBJECT_SEQUENCE, JetStream
from tailrace_shared.nats.nats_requests import RESEND_S

COMMIT_ID: Final = "Tailrace-Commit"
WRITER: Final = "Tailrace-Writer"
VERSION: Final = "Tailrace-Version"

_FIRST_VERSION: Final = "1"
_FIRST_PAUSE_S: Final = 0.05
_MAX_PAUSE_S: Final = 2.0
# Replication takes milliseconds.
_REPLICATION_PAUSE_S: Final = 0.005
_NO_HEADERS: Final[Mapping[str, str]] = {}


async def append(  # noqa: PLR0913 - the parts of a commit
    jetstream: JetStream,
    stream: str,
    subject: str,
    payload: bytes,
    *,
    expected: int,
    writer: str = "",
    headers: Mapping[str, str] = _NO_HEADERS,
    commit_id: str = "",
    retry_s: float = 30.0,
) -> int:
    """Append a commit after sequence ``expected`` (0: as the first); return its sequence.

    Args:
        stream: the stream that stores ``subject``.
        expected: the last sequence on the subject that the caller has seen.
        writer: the id of the appending worker; empty for the API.
        headers: further headers, such as the execution's status after the commit, or the version of
            the events if it is not the first.
        commit_id: an id that no other commit has; random if empty.
        retry_s: seconds to retry while NATS does not answer.

    Raises:
        WrongLastSequenceError: another writer appended first; nothing was stored. Its ``last`` is
            above ``expected``, or below if the log was deleted or NATS has lost commits.
        UnavailableError: NATS did not answer in time; the commit may or may not be stored.
    """
    commit_id = commit_id or new_token()
    headers = {
        EXPECTED_LAST_SUBJECT_SEQUENCE: str(expected),
        COMMIT_ID: commit_id,
        VERSION: _FIRST_VERSION,
        **headers,
    }
    if writer:
        headers[WRITER] = writer
    deadline = asyncio.get_running_loop().time() + retry_s
    pause_s, may_be_stored, is_refused = _FIRST_PAUSE_S, False, False
    while True:
        began = asyncio.get_running_loop().time()
        try:
            return await jetstream.publish(subject, payload, headers)
        except WrongLastSequenceError as error:
            # The answer may be that to a copy.
            may_be_stored |= asyncio.get_running_loop().time() - began >= RESEND_S
            if not is_refused:
                pause_s, is_refused = _REPLICATION_PAUSE_S, True
            lost = await _confirmed(jetstream, stream, subject, expected, error)
            if lost is not None and may_be_stored:
                stored = await _stored_as(jetstream, stream, subject, expected, commit_id)
                if stored is not None:
                    return stored
            if lost is not None:
                raise lost from None
            failure = UnavailableError(f"the leader of {stream} refuses an append: {error}")
        except UnavailableError as error:
            failure, may_be_stored = error, True
        if asyncio.get_running_loop().time() + pause_s > deadline:
            raise failure
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 2, _MAX_PAUSE_S)


async def _confirmed(
    jetstream: JetStream,
    stream: str,
    subject: str,
    expected: int,
    error: WrongLastSequenceError,
) -> WrongLastSequenceError | None:
    """Return the lost fence that a refusal means, or None if the append may still succeed."""
    if error.last is None or error.last == expected:
        return None
    if error.last > expected:
        return error
    try:
        newest = await jetstream.get_newest(stream, {"last_by_subj": subject}, at_least=expected)
    except UnavailableError:
        return None
    last = 0 if newest is None else newest.sequence
    if last == expected:
        return None
    return WrongLastSequenceError(error.code, f"wrong last sequence: {last}")


async def _stored_as(
    jetstream: JetStream, stream: str, subject: str, after: int, commit_id: str
) -> int | None:
    """Return the sequence of the commit that follows ``after``, if it has this id.

    A leader refuses an append already because of a commit that it replicates, and shows that commit
    only when it is stored. So it has to prove that it has stored what it was sent before.
    """
    while True:
        with contextlib.suppress(UnavailableError):
            request = {"seq": after + 1, "next_by_subj": subject}
            message = await jetstream.get_newest(stream, request, at_least=after + 1)
            is_own = message is not None and message.headers.get(COMMIT_ID) == commit_id
            return message.sequence if message is not None and is_own else None
        # A commit was stored there. The caller must not go on before it knows whose it is.
        await asyncio.sleep(_MAX_PAUSE_S)
