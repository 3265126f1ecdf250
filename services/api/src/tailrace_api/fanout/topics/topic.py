"""A part of the log in one dialect (a topic), while a connection follows it.

Commits are encoded once into the topic's ring, in order and without a gap. If the dialect has a
state, the ring begins at a snapshot of the tenant, and the state takes every commit that is
appended. So the state always corresponds to the ring's edge.

Sweeps (`tailrace_api.fanout.topics.sweeper`) write the ring to the followers.
"""

from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

from tailrace_api.dialects.block import Block
from tailrace_api.dialects.context import Context
from tailrace_api.dialects.dialect import AwaitsWorkflows, State
from tailrace_api.dialects.encoding import with_last_id
from tailrace_api.fanout.runtime.limits import RingBounds
from tailrace_api.fanout.runtime.stream_runtime import StreamRuntime
from tailrace_api.fanout.tenants.contexts import Contexts
from tailrace_api.fanout.tenants.snapshots import Snapshots
from tailrace_api.fanout.topics.memory_budget import MemoryAccount
from tailrace_api.fanout.topics.ring import Ring
from tailrace_api.fanout.topics.sweeper import Follower, Sweeper
from tailrace_api.fanout.views.view import Logged, View
from tailrace_api.sse.chunk import chunk
from tailrace_shared.stores.execution_log import ExecutionLog
from tailrace_shared.stores.horizon_store import HorizonStore

# Memory of a topic beside its ring and its state.
_OVERHEAD_BYTES: Final = 6 * 1024


class TopicSources(NamedTuple):
    """The sources of topics."""

    log: ExecutionLog
    contexts: Contexts
    snapshots: Snapshots
    horizons: HorizonStore


class Topic:
    """The live end of a part of the log.

    Attributes:
        ring: the newest commits; None until the topic knows where the log ends.
        state: the state of the dialect at the ring's edge, if it has one.
    """

    def __init__(
        self, view: View, runtime: StreamRuntime, bounds: RingBounds, account: MemoryAccount
    ) -> None:
        self.view = view
        self.epoch = runtime.epoch
        self.followers: set[Follower] = set()
        self.ring: Ring | None = None
        self.state: State | None = None
        # The encoded opening, with the ring edge and the second for which it is valid.
        self._opening: tuple[int, int, bytes] | None = None
        self._bounds = bounds
        self._account = account
        self._state_bytes = 0
        account.add(_OVERHEAD_BYTES)
        self._counts = runtime.counts
        self._sweeper = Sweeper(runtime, self.followers, account, bounds)
        self._is_closed = False

    @property
    def known_edge(self) -> int:
        """The highest sequence that the part of the log is known to reach."""
        return self.ring.newest if self.ring else 0

    def close(self) -> None:
        """Release the memory; the topic takes no more commits."""
        self._is_closed = True
        self._sweeper.cancel_lazy_sweep()
        self._account.close()

    def evict_sent(self) -> None:
        """Evict the ring's commits that all followers have been sent, unless a sweep is pending."""
        if self.ring and self._sweeper.is_idle:
            self.ring.evict_through(self.ring.newest)

    def end(self, reason: str) -> None:
        self._sweeper.end_all(reason)

    def opening(self, milliseconds: int) -> bytes:
        """Return the first chunk of a stream that begins at the ring's edge; empty if it has none.

        Its last block has the position of the edge.
        """
        ring, second = self.ring, milliseconds // 1000
        if ring is None:
            raise RuntimeError("a topic without a ring has no edge")
        if self._opening is None or self._opening[:2] != (ring.edge, second):
            blocks = self.opening_blocks(milliseconds)
            wire = chunk(with_last_id(blocks, str(ring.end)))
            self._opening = (ring.edge, second, wire)
        return self._opening[2]

    def opening_blocks(self, milliseconds: int) -> Sequence[Block]:
        """Return the blocks of a stream that begins at the ring's edge."""
        return self.state.opening(milliseconds) if self.state else ()

    @property
    def missing(self) -> frozenset[str]:
        if self.state is None or not isinstance(self.state, AwaitsWorkflows):
            return frozenset()
        return self.state.missing

    def add_workflows(self, workflows: Collection[str]) -> None:
        if workflows and isinstance(self.state, AwaitsWorkflows):
            self.state.add_workflows(workflows)
            self._opening = None

    def _begin(self, ring: Ring, state: State | None = None) -> None:
        """Take a ring, and the state at its edge."""
        self.ring, self.state = ring, state
        self._account_state()
        for follower in tuple(self.followers):
            follower.on_ring_ready()

    def _account_state(self) -> None:
        """Count the memory of the state; end the streams if it grows beyond the budget."""
        size = self.state.size if self.state else 0
        growth, self._state_bytes = size - self._state_bytes, size
        self._account.add(growth)
        if growth > 0 and (reason := self._account.refusal):
            self._counts.refused[reason] += len(self.followers)
            self.end(reason)

    def _append(self, ring: Ring, commit: Logged, context: Context) -> bool:
        """Append a commit to the ring; return whether it is swept at once."""
        encoded = self.view.encode(self.epoch, commit, context, self.state)
        ring.append(encoded)
        self._account_state()
        return self._sweeper.note_append(ring, encoded, is_execution=bool(self.view.part.execution))
