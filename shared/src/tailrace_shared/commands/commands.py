"""The one wiring of the commands, built over the stores."""

from dataclasses import dataclass
from typing import Self

from tailrace_shared.commands.concurrency_gate import ConcurrencyGate
from tailrace_shared.commands.execution_commands import ExecutionCommands
from tailrace_shared.commands.job_publisher import JobPublisher
from tailrace_shared.commands.live_limits import StartLimits
from tailrace_shared.commands.run_starter import RunStarter
from tailrace_shared.commands.signals import Signals
from tailrace_shared.commands.start_rate_limit import StartRateLimit
from tailrace_shared.commands.trigger_jobs import TriggerJobs
from tailrace_shared.nats.jetstream import JetStream
from tailrace_shared.process.fair_threads import FairThreads
from tailrace_shared.stores.stores import Stores
from tailrace_shared.subjects import Subjects
from tailrace_shared.workflow.expressions.budget import DEFAULT_STEPS


@dataclass(frozen=True, slots=True)
class Commands:
    """The commands of one installation. Composition roots build it once.

    Attributes:
        threads: check what takes long; one thread of a process computes at a time.
    """

    jobs: JobPublisher
    starter: RunStarter
    executions: ExecutionCommands
    signals: Signals
    gate: ConcurrencyGate
    threads: FairThreads

    @classmethod
    def over(
        cls,
        stores: Stores,
        jetstream: JetStream,
        subjects: Subjects,
        rate_limit: StartRateLimit | None = None,
        limits: StartLimits | None = None,
        expression_steps: float = DEFAULT_STEPS,
    ) -> Self:
        """Return the commands of an installation.

        Args:
            rate_limit: the limit on runs that a tenant may start, or None for no limit.
            limits: further limits on starts; None for no limits.
            expression_steps: what the expressions of one template may cost.
        """
        jobs, threads = JobPublisher(jetstream, subjects), FairThreads()
        starter = RunStarter(stores, jobs, threads, rate_limit, limits)
        return cls(
            jobs=jobs,
            starter=starter,
            executions=ExecutionCommands(stores, jobs, threads),
            signals=Signals(stores, jobs, TriggerJobs(jetstream, subjects), expression_steps),
            gate=ConcurrencyGate(stores, jobs),
            threads=threads,
        )
