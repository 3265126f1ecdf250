"""The stores: all that the API reads and writes through NATS, made once for one connection."""

from dataclasses import dataclass
from typing import Self

from tailrace_shared.commands.execution_commands import ExecutionCommands
from tailrace_shared.commands.run_starter import RunStarter
from tailrace_shared.commands.signals import Signals
from tailrace_shared.commands.start_rate_limit import StartRateLimit
from tailrace_shared.nats.jetstream import JetStream
from tailrace_shared.stores.dead_letters import DeadLetters
from tailrace_shared.stores.execution_log import ExecutionLog
from tailrace_shared.stores.indexes.due_index import DueIndex
from tailrace_shared.stores.indexes.live_index import LiveIndex
from tailrace_shared.stores.indexes.result_index import ResultIndex
from tailrace_shared.stores.indexes.run_index import RunIndex
from tailrace_shared.stores.indexes.waiting_index import WaitingIndex
from tailrace_shared.stores.node_type_store import NodeTypeStore
from tailrace_shared.stores.output_store import OutputStore
from tailrace_shared.stores.schedule_store import ScheduleStore
from tailrace_shared.stores.stats_store import StatsStore
from tailrace_shared.stores.trigger_store import TriggerStore
from tailrace_shared.stores.workflow_store import WorkflowStore
from tailrace_shared.subjects import Subjects


@dataclass(frozen=True, slots=True)
class Stores:
    """What routes and streams stand on."""

    log: ExecutionLog
    workflows: WorkflowStore
    node_types: NodeTypeStore
    runs: RunIndex
    live: LiveIndex
    results: ResultIndex
    waiting: WaitingIndex
    outputs: OutputStore
    stats: StatsStore
    schedules: ScheduleStore
    dead_letters: DeadLetters
    starter: RunStarter
    commander: ExecutionCommands
    signals: Signals

    @classmethod
    def over(
        cls, jetstream: JetStream, subjects: Subjects, run_rate: StartRateLimit | None
    ) -> Self:
        """Return the stores of an installation.

        Args:
            jetstream: where they are.
            subjects: how they are called.
            run_rate: what limits the runs that a tenant may start; None: nothing does.
        """
        log, due = ExecutionLog(jetstream, subjects), DueIndex(jetstream, subjects)
        workflows = WorkflowStore(jetstream, subjects)
        waiting = WaitingIndex(jetstream, subjects)
        # Outputs are put by workers only, so no limit matters here.
        outputs = OutputStore(jetstream, subjects, max_bytes=0)
        starter = RunStarter(jetstream, subjects, workflows, run_rate)
        triggers = TriggerStore(jetstream, subjects)
        return cls(
            log=log,
            workflows=workflows,
            node_types=NodeTypeStore(jetstream, subjects),
            runs=RunIndex(jetstream, subjects),
            live=LiveIndex(jetstream, subjects),
            results=ResultIndex(jetstream, subjects),
            waiting=waiting,
            outputs=outputs,
            stats=StatsStore(jetstream, subjects),
            schedules=ScheduleStore(jetstream, subjects),
            dead_letters=DeadLetters(jetstream, subjects),
            starter=starter,
            commander=ExecutionCommands(log, due, starter, workflows),
            signals=Signals(log, waiting, triggers, due, outputs, starter.advance),
        )
