"""Fenced appends to an execution's log.

A commit names the last sequence that its writer has seen (optimistic concurrency, ADR-33). Of two
writers at the same place one wins, and the other gets an error. A publish whose acknowledgement
was lost is retried; the commit's own id then tells "already stored" from "another writer's".
"""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Final

from tailrace_shared.errors import UnavailableError, WrongLastSequenceError
from tailrace_shared.execution.commits import EVENTS_VERSION
from tailrace_shared.ids import new_token
from tailrace_shared.nats.jetstream import EXPECTED_LAST_SUBJECT_SEQUENCE, JetStream

COMMIT_ID: Final = "Tailrace-Commit"
WRITER: Final = "Tailrace-Writer"
VERSION: Final = "Tailrace-Version"

_FIRST_PAUSE_S: Final = 0.05
_MAX_PAUSE_S: Final = 2.0
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
        headers: further headers, such as the execution's status after the commit.
        commit_id: an id that no other commit has; random if empty.
        retry_s: seconds to retry while NATS does not answer.

    Raises:
        WrongLastSequenceError: another writer appended first; nothing was stored.
        UnavailableError: NATS did not answer in time; the commit may or may not be stored.
    """
    commit_id = commit_id or new_token()
    headers = {
        EXPECTED_LAST_SUBJECT_SEQUENCE: str(expected),
        COMMIT_ID: commit_id,
        VERSION: str(EVENTS_VERSION),
        **headers,
    }
    if writer:
        headers[WRITER] = writer
    deadline = asyncio.get_running_loop().time() + retry_s
    pause_s, may_be_stored = _FIRST_PAUSE_S, False
    while True:
        try:
            return await jetstream.publish(subject, payload, headers)
        except WrongLastSequenceError as error:
            if not may_be_stored:
                raise
            stored = await _stored_as(jetstream, stream, subject, expected, commit_id)
            if stored is None:
                raise error from None
            return stored
        except UnavailableError:
            may_be_stored = True
            if asyncio.get_running_loop().time() + pause_s > deadline:
                raise
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _MAX_PAUSE_S)


async def _stored_as(
    jetstream: JetStream, stream: str, subject: str, after: int, commit_id: str
) -> int | None:
    """Return the sequence of the commit that follows ``after``, if it has this id."""
    while True:
        with contextlib.suppress(UnavailableError):
            request = {"seq": after + 1, "next_by_subj": subject}
            message = await jetstream.get_newest(stream, request)
            is_own = message is not None and message.headers.get(COMMIT_ID) == commit_id
            return message.sequence if message is not None and is_own else None
        # A commit was stored there. The caller must not go on before it knows whose it is.
        await asyncio.sleep(_MAX_PAUSE_S)
