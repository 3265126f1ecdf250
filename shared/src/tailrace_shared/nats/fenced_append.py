"""Fenced appends to an execution's log.

A commit names the last sequence that its writer has seen (ADR-33's optimistic concurrency), so of
two writers at the same place one wins and the other learns it. A publish whose acknowledgement
was lost is tried again; the commit's own id then tells "already stored" from "somebody else".
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

_LONGEST_PAUSE: Final = 2.0
_NOTHING: Final[Mapping[str, str]] = {}


async def append(  # noqa: PLR0913 - a commit has so many parts
    jetstream: JetStream,
    stream: str,
    subject: str,
    payload: bytes,
    *,
    expected: int,
    writer: str = "",
    told: Mapping[str, str] = _NOTHING,
    commit_id: str = "",
    patience: float = 30.0,
) -> int:
    """Append a commit after sequence ``expected`` (0: as the first); returns its sequence.

    Args:
        jetstream: where to.
        stream: the stream that stores ``subject``.
        subject: the execution's log.
        payload: the encoded commit.
        expected: the last sequence on the subject that the caller has seen.
        writer: who appends; empty for the API.
        told: more headers, which say how the execution stands.
        commit_id: what no other commit is called; a random one if none is given.
        patience: seconds to go on trying while NATS does not answer.

    Raises:
        WrongLastSequenceError: somebody else appended first; nothing was stored.
        UnavailableError: NATS did not answer in time; the commit may or may not be stored.
    """
    commit_id = commit_id or new_token()
    headers = {
        EXPECTED_LAST_SUBJECT_SEQUENCE: str(expected),
        COMMIT_ID: commit_id,
        VERSION: str(EVENTS_VERSION),
        **told,
    }
    if writer:
        headers[WRITER] = writer
    deadline = asyncio.get_running_loop().time() + patience
    pause, unsure = 0.05, False
    while True:
        try:
            return await jetstream.publish(subject, payload, headers)
        except WrongLastSequenceError as lost:
            stored = await _own(jetstream, stream, subject, expected, commit_id) if unsure else None
            if stored is None:
                raise lost from None
            return stored
        except UnavailableError:
            unsure = True
            if asyncio.get_running_loop().time() + pause > deadline:
                raise
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)


async def _own(
    jetstream: JetStream, stream: str, subject: str, after: int, commit_id: str
) -> int | None:
    """Return the sequence of the commit after ``after`` if it is the one with this id."""
    while True:
        with contextlib.suppress(UnavailableError):
            request = {"seq": after + 1, "next_by_subj": subject}
            message = await jetstream.get_newest(stream, request)
            is_own = message is not None and message.headers.get(COMMIT_ID) == commit_id
            return message.sequence if message is not None and is_own else None
        # It is known that somebody has written; who, must be known before the caller goes on.
        await asyncio.sleep(_LONGEST_PAUSE)
