"""A view: a part of the log, seen through a dialect. What has the same view shares all work."""

from typing import NamedTuple

import msgspec
import structlog

from tailrace_api.dialects.context import Context
from tailrace_api.dialects.dialect import Dialect, EncodedCommit, encode_commit, unnamed
from tailrace_shared.subjects import LogFilter

_log = structlog.get_logger("tailrace.api.fanout")


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
        return b"" if greeting is None else unnamed([greeting])

    def encode(self, epoch: str, execution: str, sequence: int, payload: bytes) -> EncodedCommit:
        """Encode a commit; one that is none of ours becomes one without events."""
        try:
            commit = encode_commit(self.dialect, epoch, Context(execution), sequence, payload)
        except msgspec.MsgspecError as error:
            # Somebody else writes to our log. What is legible is still worth streaming.
            _log.warning(
                "commit is illegible", execution=execution, sequence=sequence, error=str(error)
            )
            return EncodedCommit.of(sequence, (), is_last=False)
        if commit.is_last and not self.part.execution:
            # An execution has ended, its tenant has not.
            return EncodedCommit(sequence, commit.chunk, commit.ends, is_last=False)
        return commit
