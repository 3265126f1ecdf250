"""Where the log ends, as far as it may be believed.

During a partition, two leaders of the stream may answer for some seconds: the one that the majority
has elected, and an older one that has not noticed yet and lacks the newest commits. Other replicas
may lag at any time. So an answer is not the state of the log; it is what one replica knew.

**Facts that only grow.** The first sequence, the last sequence and the horizon of a tenant never
decrease. Each answer, however old, is a lower bound of them, and so is each commit that has been
delivered live. What follows from lower bounds is certain: the log reaches at least to the highest
sequence that this process has seen (the *floor*); a sequence is deleted if it is not above a
horizon, or if a replica holds a later commit but not this one. Decisions are made on such evidence.

**Absence is not evidence.** "There is no such commit" and "the log ends here" may come from a
replica that does not know better. If such an answer contradicts the floor, or a position that a
client got from another API replica, the question is repeated for about four seconds. Meanwhile
streams stay as they are. If no answer settles it, the client reconnects later with the same id. It
never gets a reset, or events twice, because of a doubt.

**Loss.** The log may really have gone back: a server without replicas lost what was not synced to
disk, all replicas lost their newest data, or an older backup was restored. That is believed if all
answers of these four seconds agree and each came from a leader that had a quorum. A leader has a
quorum if a majority of the replicas have answered it within three seconds: followers elect no other
leader for four seconds after they have heard from one, so there is no other leader. A stream with a
single replica has no other copy that could know more, so its first answer is believed.
"""

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from tailrace_api.fanout.history.replay import LocatedCommit, Replay
from tailrace_api.fanout.runtime.stream_runtime import StreamRuntime
from tailrace_api.fanout.topics.registry import TopicRegistry
from tailrace_shared.errors import LaggingReplicaError
from tailrace_shared.nats.catch_up import until_caught_up
from tailrace_shared.stores.execution_log import ExecutionLog
from tailrace_shared.stores.log_records import Commit, LogEdge
from tailrace_shared.subjects import LogFilter

_LOG_END: Final = "the end of the log"

T = TypeVar("T")


class LogEdges:
    """Reads where the log ends, and what it does not contain.

    Args:
        runtime: the epoch of the log, as far as this process knows.
        log: the log.
        replay: shares reads.
        topics: the live topics, which see the newest commits.
    """

    def __init__(
        self, runtime: StreamRuntime, log: ExecutionLog, replay: Replay, topics: TopicRegistry
    ) -> None:
        self._runtime = runtime
        self._log = log
        self._replay = replay
        self._topics = topics

    @property
    def floor(self) -> int:
        """The highest sequence of the log that this process has seen."""
        return max(self._log.newest_seen, self._topics.newest_live)

    def lower_floor(self, sequence: int) -> None:
        """Forget what was seen above a sequence, after a loss of data."""
        self._log.newest_seen = min(self._log.newest_seen, sequence)
        self._topics.newest_live = min(self._topics.newest_live, sequence)

    async def read(self, at_least: int = 0, *, is_new: bool = False) -> LogEdge:
        """Return where the log begins and ends.

        Args:
            at_least: a sequence of the current epoch that a client or this process has seen.
            is_new: whether the read is for a new stream, which may be refused.

        Returns:
            An edge that reaches the floor and ``at_least``; otherwise the log has lost commits, was
            recreated, or never had ``at_least``.

        Raises:
            UnavailableError: NATS did not answer, or only replicas that may lag, or too many reads
                are queued.
        """
        wanted, epoch = max(at_least, self.floor), self._runtime.epoch
        answers: list[LogEdge] = []

        async def read() -> LogEdge:
            answers.append(await self._replay.edge(wanted, is_new=is_new))
            return answers[-1]

        def is_believed(edge: LogEdge) -> bool:
            return (edge.epoch == epoch and edge.last_sequence >= wanted) or edge.is_sole

        try:
            return await until_caught_up(read, is_believed, _LOG_END)
        except LaggingReplicaError:
            if all(edge.has_quorum for edge in answers):
                return answers[-1]
            raise

    async def newest(self, part: LogFilter, from_sequence: int = 1) -> Commit | None:
        """Return the newest commit of a part of the log.

        Returns:
            None only if the part certainly has no commit from ``from_sequence`` on.

        Raises:
            UnavailableError: NATS did not answer, or only replicas that may lag.
        """

        async def read() -> Commit | None:
            newest = await self._log.newest(part)
            return None if newest is None or newest.sequence < from_sequence else newest

        if (newest := await read()) is None and from_sequence <= 1:
            # One answer says that the leader is one and that it has nothing.
            edge = await self._log.edge(part)
            if not edge.has_commits and self._is_leaders(edge, self.floor):
                return None
        return newest or await self._unless_absent(read)

    async def find(self, sequence: int) -> LocatedCommit | None:
        """Return the commit at a sequence that the log has reached; None if it is deleted.

        Raises:
            UnavailableError: NATS did not answer, or only replicas that may lag.
        """

        async def read() -> LocatedCommit | None:
            return await self._log.find_next(sequence, from_leader=True)

        found = await self._unless_absent(read)
        return found if found is not None and found[2].sequence == sequence else None

    async def _unless_absent(self, read: Callable[[], Awaitable[T | None]]) -> T | None:
        """Return what ``read`` finds on a leader, or None if it certainly does not exist."""
        floor = self.floor
        edges: list[LogEdge] = []

        async def read_both() -> T | None:
            edges.append(await self._log.edge())
            return await read()

        try:
            return await until_caught_up(
                read_both, lambda found: found is not None or edges[-1].is_sole, _LOG_END
            )
        except LaggingReplicaError:
            if all(self._is_leaders(edge, floor) for edge in edges):
                return None
            raise

    def _is_leaders(self, edge: LogEdge, floor: int) -> bool:
        return edge.is_sole or (edge.has_quorum and edge.last_sequence >= floor)
