"""The fenced writer of one execution's log (design D2, D3)."""

from collections.abc import Sequence

from tailrace_shared.appends import append
from tailrace_shared.execution.events import Event, encode_commits
from tailrace_shared.jetstream import JetStream
from tailrace_shared.subjects import Subjects
from tailrace_shared.topology import EVENTS


class LogWriter:
    """Appends commits in the name of one worker.

    Attributes:
        last_sequence: the last sequence on the execution's subject that this writer has seen.
    """

    def __init__(
        self, jetstream: JetStream, subjects: Subjects, tenant: str, execution: str, writer: str
    ) -> None:
        self._jetstream = jetstream
        self._stream = subjects.stream(EVENTS)
        self._subject = subjects.log(tenant, execution)
        self._writer = writer
        self.last_sequence = 0

    async def append(self, events: Sequence[Event]) -> None:
        """Append events, in one commit unless they are too large for one.

        Raises:
            WrongLastSequenceError: somebody else appended first. Of several commits the first
                ones may be stored, so the caller must read the log before it writes again.
            UnavailableError: NATS did not answer for half a minute.
        """
        for payload in encode_commits(events):
            self.last_sequence = await append(
                self._jetstream,
                self._stream,
                self._subject,
                payload,
                expected=self.last_sequence,
                writer=self._writer,
            )
