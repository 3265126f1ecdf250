"""The stores: all that the API reads and writes through NATS, made once for one connection."""

from dataclasses import dataclass
from typing import Self

from tailrace_shared.commander import Commander
from tailrace_shared.dead_letters import DeadLetters
from tailrace_shared.due_index import DueIndex
from tailrace_shared.execution_log import ExecutionLog
from tailrace_shared.jetstream import JetStream
from tailrace_shared.live_index import LiveIndex
from tailrace_shared.node_type_store import NodeTypeStore
from tailrace_shared.output_store import OutputStore
from tailrace_shared.result_index import ResultIndex
from tailrace_shared.run_index import RunIndex
from tailrace_shared.run_rate import RunRate
from tailrace_shared.run_starter import RunStarter
from tailrace_shared.schedule_store import ScheduleStore
from tailrace_shared.signals import Signals
from tailrace_shared.stats_store import StatsStore
from tailrace_shared.subjects import Subjects
from tailrace_shared.trigger_store import TriggerStore
from tailrace_shared.waiting_index import WaitingIndex
from tailrace_shared.workflow_store import WorkflowStore


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
    commander: Commander
    signals: Signals

    @classmethod
    def over(cls, jetstream: JetStream, subjects: Subjects, run_rate: RunRate | None) -> Self:
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
            commander=Commander(log, due, starter, workflows),
            signals=Signals(log, waiting, triggers, due, outputs, starter.advance),
        )
