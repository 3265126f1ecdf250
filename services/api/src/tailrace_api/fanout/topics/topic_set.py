"""Several topics of one tenant, followed as one (a set).

A set has no commits of its own. It follows its topics, which other sets share, and merges what is
in their rings for its own followers.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import Final

from tailrace_api.dialects.block import Block
from tailrace_api.dialects.encoding import with_last_id
from tailrace_api.dialects.multiplex import Multiplex, MultiplexState, NamedTopic
from tailrace_api.fanout.topics.memory_budget import MemoryAccount
from tailrace_api.fanout.topics.merged_ring import MergedRing
from tailrace_api.fanout.topics.sweeper import Follower
from tailrace_api.fanout.topics.tenant_topic import TenantTopic
from tailrace_api.fanout.views.view import Logged, View
from tailrace_api.sse.chunk import chunk
from tailrace_shared.subjects import LogFilter

_OVERHEAD_BYTES: Final = 2 * 1024


class TopicSet:
    """The live end of several topics; a follower of each of them.

    Attributes:
        ring: the merged rings of the topics; None until each topic has one.
    """

    def __init__(self, view: View, epoch: str, account: MemoryAccount | None) -> None:
        self.view = view
        self.epoch = epoch
        self.followers: set[Follower] = set()
        self.ring: MergedRing | None = None
        self.members: Sequence[TenantTopic] = ()
        self._account = account
        if account is not None:
            account.add(_OVERHEAD_BYTES)
        # The followers that the current sweep of a topic has still to serve.
        self._unserved: Iterator[Follower] | None = None

    @staticmethod
    def views(view: View) -> list[View]:
        """Return the views of the topics of a set."""
        tenant, dialect = view.part.tenant, view.dialect
        if not isinstance(dialect, Multiplex):
            raise TypeError(f"dialect {dialect.name!r} does not combine topics")
        return [View(topic, LogFilter(tenant, topic.execution)) for topic in dialect.topics]

    def begin(self, members: Sequence[TenantTopic]) -> None:
        """Take the topics, which the set follows by now."""
        self.members = members
        self.on_ring_ready()

    @property
    def known_edge(self) -> int:
        """The highest sequence that the topics are known to reach."""
        return max((member.known_edge for member in self.members), default=0)

    def close(self) -> None:
        if self._account is not None:
            self._account.close()

    def evict_sent(self) -> None:
        """Do nothing: the topics evict what they have."""

    # As the follower of its topics

    def on_ring_ready(self) -> None:
        """Merge the rings, and tell the followers, once each topic has one."""
        rings = [member.ring for member in self.members if member.ring is not None]
        if self.ring is None and rings and len(rings) == len(self.members):
            self.ring = MergedRing(self.epoch, rings)
            for follower in tuple(self.followers):
                follower.on_ring_ready()

    def serve(self) -> bool:
        """Let a follower read a batch; return whether to be called again in this sweep."""
        if self._unserved is None:
            if len(self.followers) == 1:
                (only,) = self.followers
                return only.serve()
            self._unserved = iter(tuple(self.followers))
        follower = next(self._unserved, None)
        if follower is None:
            self._unserved = None
            return False
        while follower.serve():
            pass
        return True

    def end(self, reason: str) -> None:
        for follower in tuple(self.followers):
            follower.end(reason)

    # As a topic

    @property
    def state(self) -> MultiplexState | None:
        """The states of the topics at the ring's edge; None if none has one."""
        states = {
            member.view.dialect: member.state
            for member in self.members
            if member.state is not None and isinstance(member.view.dialect, NamedTopic)
        }
        dialect = self.view.dialect
        if not states or not isinstance(dialect, Multiplex):
            return None
        return MultiplexState(dialect.topics, states)

    def opening(self, milliseconds: int) -> bytes:
        """Return the first chunk of a stream that begins at the ring's edge; empty if it has none.

        Its last block has the position of the edge.
        """
        if self.ring is None:
            raise RuntimeError("a set without a ring has no edge")
        blocks = self.opening_blocks(milliseconds)
        return chunk(with_last_id(blocks, str(self.ring.end)))

    def opening_blocks(self, milliseconds: int) -> Sequence[Block]:
        """Return the blocks of a stream that begins at the ring's edge."""
        return [block for member in self.members for block in member.opening_blocks(milliseconds)]

    def snapshots(
        self, topics: Collection[NamedTopic], milliseconds: int
    ) -> dict[NamedTopic, Sequence[Block]]:
        """Return the blocks with which some topics begin at the ring's edge."""
        return {
            member.view.dialect: member.opening_blocks(milliseconds)
            for member in self.members
            if isinstance(member.view.dialect, NamedTopic) and member.view.dialect in topics
        }

    def without(self, topics: Collection[NamedTopic]) -> "TopicSet | None":
        """Return the other topics as a set without followers; None if there are no others."""
        rest = [member for member in self.members if member.view.dialect not in topics]
        if not rest:
            return None
        dialect = Multiplex(
            tuple(
                member.view.dialect
                for member in rest
                if isinstance(member.view.dialect, NamedTopic)
            )
        )
        part = TopicSet(View(dialect, self.view.part), self.epoch, None)
        part.begin(rest)
        return part

    async def reached(self, sequence: int) -> None:
        """Wait until the rings have reached a sequence at which the log has a commit."""
        await self.members[0].tail.reached(sequence)

    async def reach_back(self, sequence: int) -> None:
        """Extend the rings back to a sequence, as far as the tenant's window can.

        Raises:
            UnavailableError: NATS did not answer, or only replicas that lag.
        """
        for member in self.members:
            await member.reach_back(sequence)

    @property
    def newest(self) -> Logged | None:
        """The tenant's newest commit up to the edge, or None."""
        return self.members[0].newest

    @property
    def missing(self) -> frozenset[str]:
        return frozenset().union(*(member.missing for member in self.members))

    def add_workflows(self, workflows: Collection[str]) -> None:
        for member in self.members:
            member.add_workflows(workflows)
