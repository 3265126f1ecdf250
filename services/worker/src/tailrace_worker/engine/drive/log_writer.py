"""Append commits to one execution's log, fenced."""

import time
from collections.abc import Sequence
from typing import Final

from tailrace_shared.errors import UnavailableError, WrongLastSequenceError
from tailrace_shared.execution.commit_status import STATE, WORKFLOW
from tailrace_shared.execution.commits import encode_commits, events_version, split_commit
from tailrace_shared.execution.events import Event
from tailrace_shared.execution.state import ExecutionState
from tailrace_shared.ids import new_token
from tailrace_shared.nats.fenced_append import VERSION, append
from tailrace_shared.nats.jetstream import JetStream
from tailrace_shared.nats.topology import EVENTS
from tailrace_shared.process.tracing import current_trace_id
from tailrace_shared.subjects import Subjects
from tailrace_worker.engine.counts import EngineCounts

# No other worker can take over while NATS is away, so attempts need not be given up early.
_RETRY_S: Final = 300.0


class LogWriter:
    """Appends commits in the name of one worker.

    Attributes:
        last_sequence: the last sequence on the execution's subject that the drive has seen.
        stored: number of events of the last ``append`` that are stored, if it failed.
        bytes_written: total size of its commits in bytes.
    """

    def __init__(
        self,
        jetstream: JetStream,
        subjects: Subjects,
        tenant: str,
        execution: str,
        writer: str,
        counts: EngineCounts,
    ) -> None:
        self._counts = counts
        self._jetstream = jetstream
        self._stream = subjects.stream(EVENTS)
        self._subject = subjects.log(tenant, execution)
        self._writer = writer
        self._token = new_token()
        self._commits = 0
        self.last_sequence = 0
        self.stored = 0
        self.bytes_written = 0

    async def append(self, events: Sequence[Event], state: ExecutionState) -> None:
        """Append events, in one commit unless they are too large for one.

        Args:
            events: what to append.
            state: the execution after all of them.

        Raises:
            WrongLastSequenceError: another writer appended first. Of several commits the first may
                be stored, so the caller must read the log before it writes again.
            UnavailableError: NATS did not answer for five minutes.
        """
        self.stored = 0
        if not events:
            return
        begun = time.monotonic()
        result = "failed"
        try:
            await self._append(events, state)
            result = "stored"
        except WrongLastSequenceError:
            result = "fenced"
            raise
        except UnavailableError:
            result = "unavailable"
            raise
        finally:
            seconds = time.monotonic() - begun
            self._counts.commit_seconds[result].observe(seconds, current_trace_id())
        self._counts.note_stored(events, state)

    async def _append(self, events: Sequence[Event], state: ExecutionState) -> None:
        payloads = encode_commits(events)
        payload = next(payloads, None)
        while payload is not None:
            following = next(payloads, None)
            self._commits += 1
            self.last_sequence = await append(
                self._jetstream,
                self._stream,
                self._subject,
                payload,
                expected=self.last_sequence,
                writer=self._writer,
                headers=_headers(state, is_whole=following is None),
                # A random id for each commit would cost more than encoding the commit.
                commit_id=f"{self._token}-{self._commits}",
                retry_s=_RETRY_S,
            )
            is_all = following is None and not self.stored
            self.stored += len(events) if is_all else len(split_commit(payload))
            self.bytes_written += len(payload)
            payload = following


def _headers(state: ExecutionState, *, is_whole: bool) -> dict[str, str]:
    headers = {WORKFLOW: state.workflow_id, VERSION: str(events_version(state))}
    if is_whole:
        # Between the parts of one decision the status of the execution is undefined.
        headers[STATE] = str(state.commit_status)
    return headers
