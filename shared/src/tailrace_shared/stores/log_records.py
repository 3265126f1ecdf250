"""Commits, folded histories and edges of the event log, as its readers return them.

Sequences are those of the stream EVENTS.
"""

from collections.abc import Mapping
from typing import NamedTuple

from tailrace_shared.execution.commit_status import CommitStatus
from tailrace_shared.execution.commits import EVENTS_VERSION, decode_commit
from tailrace_shared.execution.events import Event
from tailrace_shared.execution.state import ExecutionState
from tailrace_shared.nats.fenced_append import VERSION


class Commit(NamedTuple):
    """One message of the log.

    Attributes:
        sequence: its stream sequence.
        payload: a JSON array of events.
        writer: the id of the worker that appended it; empty for the API.
        time: when the stream's leader stored it, in seconds since the epoch.
        workflow: the id of the execution's workflow; empty if an older version wrote the commit.
        status_header: the header that summarizes the execution after the commit; empty if absent.
        is_newer: whether a newer version of Tailrace wrote it, so that it must not be interpreted.
        previous: the sequence of the execution's preceding commit, 0 for none, None if unknown.
        is_listed: whether it created an execution that has a row in the start index.
    """

    sequence: int
    payload: bytes
    writer: str
    execution: str = ""
    time: float = 0.0
    workflow: str = ""
    status_header: str = ""
    is_newer: bool = False
    previous: int | None = None
    is_listed: bool = False

    @property
    def status(self) -> CommitStatus | None:
        """The execution's status after the commit, or None if the headers do not carry it."""
        return CommitStatus.parse(self.status_header)

    def events(self) -> list[Event]:
        return decode_commit(self.payload)


class History(NamedTuple):
    """An execution, folded from its log.

    Attributes:
        last_sequence: the sequence of the last commit that was read.
        last_writer: the id of the worker that appended last; commits of the API do not count.
        size: the bytes of all commits, with those of the outputs that they refer to.
        time: when the last commit was stored, in seconds since the epoch.
        is_listed: whether the execution was created with a row in the start index.
    """

    state: ExecutionState
    last_sequence: int
    last_writer: str
    size: int = 0
    time: float = 0.0
    is_listed: bool = False


class Recorded(NamedTuple):
    """The result of a request for a command.

    Attributes:
        state: the execution after it.
        sequence: the sequence of the commit that records the command; None if nothing was recorded,
            because an earlier copy of the request was.
    """

    state: ExecutionState
    sequence: int | None = None


class LogEdge(NamedTuple):
    """Where the log begins and ends, as one replica of the stream says.

    Attributes:
        epoch: the epoch of ids.
        first_sequence: the first sequence that the stream holds.
        last_sequence: the last sequence that the stream has stored.
        expires_by_age: whether the stream deletes messages by age (version 1 of the topology).
        is_sole: whether the stream has no other replica that could know more.
        has_quorum: whether a leader answered that lately heard from a majority of the replicas.
        has_commits: whether the stream holds a commit of the part that was asked about.
        lost: the ranges of sequences that restores have skipped.
        is_followed_by_all: whether that leader lately heard from all replicas.
        term: identifies the term of that leader.
    """

    epoch: str
    first_sequence: int
    last_sequence: int
    expires_by_age: bool = False
    is_sole: bool = True
    has_quorum: bool = True
    has_commits: bool = True
    lost: tuple[tuple[int, int], ...] = ()
    is_followed_by_all: bool = True
    term: str = ""


def is_newer(headers: Mapping[str, str]) -> bool:
    """Return whether a commit with these headers was written by a newer version of Tailrace."""
    version = headers.get(VERSION, "1")
    return version.isdecimal() and int(version) > EVENTS_VERSION
