"""Construct every reader and writer of NATS that the services share."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from tailrace_shared.nats.bucket import Bucket
from tailrace_shared.nats.jetstream import JetStream
from tailrace_shared.nats.topology import CONCURRENCY, HORIZONS, IDEMPOTENCY, KEYS, LEASES
from tailrace_shared.stores.dead_letters import DeadLetters
from tailrace_shared.stores.execution_log import ExecutionLog
from tailrace_shared.stores.feed_messages import FeedMessages
from tailrace_shared.stores.fifo_queue import FifoQueue
from tailrace_shared.stores.firing_store import FiringStore
from tailrace_shared.stores.horizon_store import HorizonStore
from tailrace_shared.stores.indexes.due_index import DueIndex
from tailrace_shared.stores.indexes.live_index import LiveIndex
from tailrace_shared.stores.indexes.result_index import ResultIndex
from tailrace_shared.stores.indexes.run_index import RunIndex
from tailrace_shared.stores.indexes.start_index import StartIndex
from tailrace_shared.stores.indexes.waiting_index import WaitingIndex
from tailrace_shared.stores.node_type_store import NodeTypeStore
from tailrace_shared.stores.output_store import OutputStore
from tailrace_shared.stores.retention import Retention
from tailrace_shared.stores.run_list import RunList
from tailrace_shared.stores.schedule_store import ScheduleStore
from tailrace_shared.stores.start_pruning import StartPruning
from tailrace_shared.stores.start_repair import StartRepair
from tailrace_shared.stores.stats_store import StatsStore
from tailrace_shared.stores.trigger_store import TriggerStore
from tailrace_shared.stores.workflow_store import WorkflowStore
from tailrace_shared.subjects import Subjects


@dataclass(frozen=True, slots=True)
class Stores:
    """The stores of one installation, over one connection. Composition roots build it once."""

    log: ExecutionLog
    workflows: WorkflowStore
    node_types: NodeTypeStore
    outputs: OutputStore
    triggers: TriggerStore
    schedules: ScheduleStore
    firings: FiringStore
    stats: StatsStore
    dead_letters: DeadLetters
    queues: FifoQueue
    runs: RunIndex
    starts: StartIndex
    live: LiveIndex
    results: ResultIndex
    due: DueIndex
    waiting: WaitingIndex
    horizons: HorizonStore
    messages: FeedMessages
    concurrency: Bucket
    idempotency: Bucket
    leases: Bucket
    keys: Bucket

    def retention(self, seconds: float, clock: Callable[[], float]) -> Retention:
        """Return what deletes executions a number of seconds after their end."""
        return Retention(
            self.log,
            self.outputs,
            self.runs,
            self.live,
            self.due,
            self.horizons,
            self.messages,
            seconds,
            clock,
        )

    def start_pruning(self, seconds: float, clock: Callable[[], float]) -> StartPruning:
        """Return the task that removes the start rows of deleted executions."""
        return StartPruning(self.starts, self.run_list, self.leases, seconds, clock)

    @property
    def start_repair(self) -> StartRepair:
        """The task that adds missing start rows."""
        return StartRepair(self.starts, self.runs, self.log, self.leases)

    @property
    def run_list(self) -> RunList:
        """The reader of pages of runs."""
        return RunList(self.starts, self.runs, self.live, self.log)

    @classmethod
    def over(cls, jetstream: JetStream, subjects: Subjects, max_output_bytes: int = 0) -> Self:
        """Return the stores of an installation.

        Args:
            max_output_bytes: the largest output that may be stored, as JSON. The API stores none.
        """

        def bucket(name: str) -> Bucket:
            return Bucket(jetstream, subjects.stream(name))

        horizons = HorizonStore(bucket(HORIZONS))
        return cls(
            log=ExecutionLog(jetstream, subjects),
            workflows=WorkflowStore(jetstream, subjects),
            node_types=NodeTypeStore(jetstream, subjects),
            outputs=OutputStore(jetstream, subjects, max_output_bytes),
            triggers=TriggerStore(jetstream, subjects),
            schedules=ScheduleStore(jetstream, subjects),
            firings=FiringStore(bucket(LEASES)),
            stats=StatsStore(jetstream, subjects),
            dead_letters=DeadLetters(jetstream, subjects),
            queues=FifoQueue(jetstream, subjects),
            runs=RunIndex(jetstream, subjects),
            starts=StartIndex(jetstream, subjects),
            live=LiveIndex(jetstream, subjects),
            results=ResultIndex(jetstream, subjects),
            due=DueIndex(jetstream, subjects),
            waiting=WaitingIndex(jetstream, subjects),
            horizons=horizons,
            messages=FeedMessages(jetstream, subjects, horizons),
            concurrency=bucket(CONCURRENCY),
            idempotency=bucket(IDEMPOTENCY),
            leases=bucket(LEASES),
            keys=bucket(KEYS),
        )
