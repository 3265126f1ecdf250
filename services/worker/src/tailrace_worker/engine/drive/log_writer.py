"""The fenced writer of one execution's log."""

from collections.abc import Sequence
from typing import Final

from tailrace_shared.execution.commit_status import STATE, WORKFLOW
from tailrace_shared.execution.commits import encode_commits, split_commit
from tailrace_shared.execution.events import Event
from tailrace_shared.execution.state import ExecutionState
from tailrace_shared.ids import new_token
from tailrace_shared.nats.fenced_append import append
from tailrace_shared.nats.jetstream import JetStream
from tailrace_shared.nats.topology import EVENTS
from tailrace_shared.subjects import Subjects

# Nobody else can take over while NATS is away, so there is no hurry to give up what runs.
_PATIENCE: Final = 300.0


class LogWriter:
    """Appends commits in the name of one worker.

    Attributes:
        last_sequence: the last sequence on the execution's subject that this writer has seen.
        stored: how many events of the last ``append`` are stored, should it have failed.
        bytes_written: how much it has appended in all.
    """

    def __init__(
        self, jetstream: JetStream, subjects: Subjects, tenant: str, execution: str, writer: str
    ) -> None:
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
            state: the execution as it is after all of them.

        Raises:
            WrongLastSequenceError: somebody else appended first. Of several commits the first
                ones may be stored, so the caller must read the log before it writes again.
            UnavailableError: NATS did not answer for five minutes.
        """
        self.stored = 0
        if not events:
            return
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
                headers=_told(state, is_whole=following is None),
                # A random number for each commit would cost more than to encode it.
                commit_id=f"{self._token}-{self._commits}",
                retry_s=_PATIENCE,
            )
            is_all = following is None and not self.stored
            self.stored += len(events) if is_all else len(split_commit(payload))
            self.bytes_written += len(payload)
            payload = following


def _told(state: ExecutionState, *, is_whole: bool) -> dict[str, str]:
    told = {WORKFLOW: state.workflow_id}
    if is_whole:
        # How the execution stands between parts of what becomes true together nobody is told.
        told[STATE] = str(state.commit_status)
    return told
