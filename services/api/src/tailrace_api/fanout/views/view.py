"""A view: a part of the log, seen through a dialect. What has the same view shares all work."""

from typing import Final, NamedTuple, Protocol

import structlog

from tailrace_api.dialects.context import Context
from tailrace_api.dialects.dialect import (
    ILLEGIBLE,
    Dialect,
    EncodedCommit,
    State,
    encode_commit,
    without_id,
)
from tailrace_shared.subjects import LogFilter

_log = structlog.get_logger("tailrace.api.fanout")

_UNSEEN: Final = (0,)


class Logged(Protocol):
    """A commit, wherever it was read."""

    @property
    def execution(self) -> str:
        """Whose it is."""

    @property
    def sequence(self) -> int:
        """Its place in the log."""

    @property
    def payload(self) -> bytes:
        """A JSON array of events."""

    @property
    def workflow(self) -> str:
        """The execution's workflow; empty where that is not said."""

    @property
    def is_newer(self) -> bool:
        """Whether a newer version of Tailrace wrote it."""


class View(NamedTuple):
    """What a connection looks at.

    Attributes:
        dialect: how it is told.
        part: an execution, or all executions of a tenant.
    """

    dialect: Dialect
    part: LogFilter

    def greeting(self, milliseconds: int) -> bytes:
        """Return the block with which a connection begins at a time, if it does with one."""
        greeting = self.dialect.greet(self.part, milliseconds)
        return b"" if greeting is None else without_id([greeting])

    def context(self, commit: Logged) -> Context | None:
        """Return what must be known of a commit's execution, if the commit itself says it."""
        match self.dialect.needs:
            case "nothing":
                return Context(commit.execution)
            case "workflow" if commit.workflow:
                return Context(commit.execution, commit.workflow)
        return None

    def encode(
        self, epoch: str, commit: Logged, context: Context, state: State | None = None
    ) -> EncodedCommit:
        """Encode a commit; one that is none of ours becomes one without events.

        Args:
            epoch: the epoch of the log.
            commit: what to encode.
            context: its execution, as far as the dialect needs to know it.
            state: what takes it into account; None: only history is read.
        """
        try:
            encoded = self._encode(epoch, commit, context, state)
        except ILLEGIBLE as error:
            # Somebody else writes to our log. What is legible is still worth streaming.
            _log.warning(
                "commit is illegible",
                execution=commit.execution,
                sequence=commit.sequence,
                error=str(error),
            )
            return EncodedCommit.of(commit.sequence, (), is_last=False)
        if encoded.is_last and not self.part.execution:
            # An execution has ended, its tenant has not.
            return encoded.not_final()
        return encoded

    def _encode(
        self, epoch: str, commit: Logged, context: Context, state: State | None
    ) -> EncodedCommit:
        dialect, sequence, payload = self.dialect, commit.sequence, commit.payload
        if not dialect.concerns(context, payload):
            # It has been seen, as one thing of which nothing is shown.
            return EncodedCommit(sequence, b"", _UNSEEN, is_last=False)
        show, is_newer = state.show if state else None, commit.is_newer
        return encode_commit(dialect, epoch, context, sequence, payload, show, is_newer=is_newer)
