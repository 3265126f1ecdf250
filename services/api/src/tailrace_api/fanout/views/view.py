"""The content of a stream, a part of the log in one dialect. Equal views share all work."""

from dataclasses import replace
from typing import NamedTuple, Protocol

import structlog

from tailrace_api.dialects.block import Block
from tailrace_api.dialects.context import Context
from tailrace_api.dialects.dialect import ILLEGIBLE, Dialect, State
from tailrace_api.dialects.encoding import EncodedCommit, encode_commit
from tailrace_shared.subjects import LogFilter

_log = structlog.get_logger("tailrace.api.fanout")


class Logged(Protocol):
    """A commit, read from the log or received live."""

    @property
    def execution(self) -> str:
        """The id of its execution."""

    @property
    def sequence(self) -> int:
        """Its stream sequence."""

    @property
    def payload(self) -> bytes:
        """A JSON array of events."""

    @property
    def workflow(self) -> str:
        """The execution's workflow; empty if the commit does not name it."""

    @property
    def is_newer(self) -> bool:
        """Whether a newer version of Tailrace wrote it."""

    @property
    def previous(self) -> int | None:
        """The sequence of the execution's preceding commit, 0 for none, None if unknown."""

    @property
    def status_header(self) -> str:
        """The header that summarizes the execution after it; empty if absent."""


class View(NamedTuple):
    """A part of the log in one dialect."""

    dialect: Dialect
    part: LogFilter

    def greeting(self, milliseconds: int) -> list[Block]:
        """Return the greeting at a time (Unix ms); empty if the dialect has none."""
        greeting = self.dialect.greet(self.part, milliseconds)
        return [] if greeting is None else [greeting]

    def context(self, commit: Logged) -> Context | None:
        """Return the context that the dialect needs, if the commit itself contains it."""
        match self.dialect.needs:
            case "nothing":
                return Context(commit.execution)
            case "workflow" if commit.workflow:
                return Context(commit.execution, commit.workflow)
        return None

    def encode(
        self, epoch: str, commit: Logged, context: Context, state: State | None = None
    ) -> EncodedCommit:
        """Encode a commit; an illegible one becomes a commit without events.

        Args:
            state: the state that takes the commit; None for history.
        """
        try:
            encoded = self._encode(epoch, commit, context, state)
        except ILLEGIBLE as error:
            # Another client wrote to the log. Legible commits are still streamed.
            _log.warning(
                "commit is illegible",
                execution=commit.execution,
                sequence=commit.sequence,
                error=str(error),
            )
            return EncodedCommit.of(commit.sequence, {}, -1, is_last=False)
        if encoded.is_last and (self.dialect.is_endless or not self.part.execution):
            # The execution has ended; the stream of its tenant goes on.
            encoded = encoded.not_final()
        if self.part.execution and commit.previous:
            # A stream of one execution checks that it has passed the predecessor.
            return replace(encoded, previous=commit.previous)
        return encoded

    def _encode(
        self, epoch: str, commit: Logged, context: Context, state: State | None
    ) -> EncodedCommit:
        dialect, sequence, payload = self.dialect, commit.sequence, commit.payload
        if not dialect.concerns(context, payload):
            return EncodedCommit.hidden(sequence)
        return encode_commit(
            dialect,
            epoch,
            context,
            sequence,
            payload,
            state.show if state else None,
            is_newer=commit.is_newer,
            status=commit.status_header,
        )
