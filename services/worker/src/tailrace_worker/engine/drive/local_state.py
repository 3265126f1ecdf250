"""Keep the state of a driven execution in memory equal to its log."""

import functools
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tailrace_shared.errors import WrongLastSequenceError
from tailrace_shared.execution.events import Event, referenced_output_bytes
from tailrace_shared.stores.log_records import Commit, History
from tailrace_worker.engine.decide.plan import Plan
from tailrace_worker.engine.decide.reorder import commute
from tailrace_worker.engine.decide.scheduler import Scheduler
from tailrace_worker.engine.drive.log_reader import LogReader, LogWentBackError
from tailrace_worker.engine.drive.log_writer import LogWriter
from tailrace_worker.engine.services.engine_services import EngineServices
from tailrace_worker.engine.tasks.execution_cache import memory_of
from tailrace_worker.engine.tasks.retry import retry_unavailable

T = TypeVar("T")


class LocalState:
    """The scheduler of a drive, whose state follows the log.

    Args:
        services: what all drives of this worker share.
        tenant: the tenant of the execution.
        execution: the id of the execution.
        on_merge: called when commits of actors were applied, from which more may follow.

    Attributes:
        writer: appends to the log; knows the last sequence that was applied.
        scheduler: holds the state; replaced when the state is reloaded.
        last_writer: the worker that drives the execution, by the last commit that names a writer.
        last_commit_at: when the last commit was stored, in seconds since the epoch.
        is_draining: whether calls are not repeated while NATS is away.
    """

    scheduler: Scheduler

    def __init__(
        self,
        services: EngineServices,
        tenant: str,
        execution: str,
        on_merge: Callable[[], None],
    ) -> None:
        self._services = services
        self._on_merge = on_merge
        self.writer = LogWriter(
            services.jetstream,
            services.subjects,
            tenant,
            execution,
            services.worker_id,
            services.counts,
        )
        self._reader = LogReader(
            services.stores.log, self.writer, tenant, execution, services.worker_id
        )
        self._held = services.output_budget.open(tenant)
        self._bytes_read = 0
        self.last_writer = ""
        self.last_commit_at = 0.0
        self.is_draining = False

    @property
    def memory(self) -> int:
        """Approximate memory of the state in bytes."""
        log_bytes = self._bytes_read + self.writer.bytes_written
        return memory_of(log_bytes, len(self.scheduler.plan.definition.nodes))

    def release_outputs(self) -> None:
        """Count outputs no longer: the drive ends, or its state is cached within another limit."""
        self._held.release()

    def start_from(self, history: History) -> None:
        """Follow the log from the end of ``history``."""
        self.writer.last_sequence = history.last_sequence
        self.last_writer, self._bytes_read = history.last_writer, history.size
        self.last_commit_at = history.time

    def schedule(self, plan: Plan, history: History) -> Scheduler:
        """Make the scheduler of a state that was read."""
        self.scheduler = Scheduler(plan, history.state)
        return self.scheduler

    async def fetch_outputs(self, *, is_enforced: bool = False) -> None:
        """Load the outputs that are stored outside the log and that some expression names.

        Args:
            is_enforced: whether to refuse what takes too much memory.

        Raises:
            OutputMemoryError: they take too much memory.
        """
        scheduler, outputs = self.scheduler, self._services.stores.outputs
        size = outputs.bytes_to_fetch(scheduler.state, scheduler.plan.referenced)
        self._held.take(size, is_enforced=is_enforced)
        await self.retry(lambda: outputs.fetch(scheduler.state, scheduler.plan.referenced))
        if scheduler.sensitivity is not None:
            scheduler.sensitivity.refresh()

    async def catch_up(self) -> None:
        """Apply all new commits, of whichever worker.

        Raises:
            DisplacedError: the log is gone.
            LogWentBackError: NATS has lost commits.
            UnavailableError: NATS did not answer for long.
        """
        commits = await self.retry(self._reader.new_commits)
        await self._apply(commits)
        for commit in commits:
            self.last_writer = commit.writer or self.last_writer

    async def read_new_commits(self) -> None:
        """Apply what others have appended, while all events of this drive are stored.

        Raises:
            DisplacedError: another worker has appended, or the log is gone.
            LogWentBackError: NATS has lost commits.
        """
        commits = await self.retry(self._reader.new_commits)
        self._reader.check(commits)
        await self._apply(commits)

    async def append(self, batch: list[Event]) -> tuple[int, WrongLastSequenceError | None]:
        """Append a turn; return how many events are stored, and the lost fence if not all are."""
        stored = 0
        while True:
            try:
                await self.writer.append(batch[stored:], self.scheduler.state)
            except WrongLastSequenceError as lost:
                stored += self.writer.stored
                if not await self._merge(batch[stored:], lost):
                    return stored, lost
            else:
                self._bytes_read += referenced_output_bytes(batch)
                if batch:
                    self.last_commit_at = self._services.now()
                return len(batch), None

    async def _merge(self, ours: list[Event], lost: WrongLastSequenceError) -> bool:
        """Apply what actors have appended before ``ours``; False to decide the turn again."""
        if (lost.last or 0) <= self.writer.last_sequence:
            return False
        commits = await self.retry(self._reader.new_commits)
        theirs = [event for commit in commits for event in commit.events()]
        if not theirs or any(c.writer for c in commits) or not commute(theirs, ours):
            return False
        await self._apply(commits)
        self._on_merge()
        return True

    async def rebase(self, facts: list[Event], lost: WrongLastSequenceError) -> list[Event]:
        """Reload the state from the log, and record on it ``facts``, none of which is stored.

        Returns:
            The facts, recorded on the new state.

        Raises:
            DisplacedError: another worker has appended, or the log is gone.
            LogWentBackError: NATS has lost commits.
        """
        if 0 < (lost.last or 0) < self.writer.last_sequence:
            raise LogWentBackError(f"{lost}, and was at {self.writer.last_sequence}")
        # The lost fence names the newest sequence of the log; a lagging replica must come that far.
        known = max(self.writer.last_sequence, lost.last or 0)
        commits, history = await self.retry(functools.partial(self._reader.reload, known))
        self._reader.check(commits)
        self.writer.last_sequence, self._bytes_read = history.last_sequence, history.size
        self.last_commit_at = history.time
        self.schedule(self.scheduler.plan, history)
        facts = [self.scheduler.record(fact) for fact in facts]
        await self.fetch_outputs()
        return facts

    async def _apply(self, commits: list[Commit]) -> None:
        for commit in commits:
            events = commit.events()
            for event in events:
                self.scheduler.record(event)
            self.writer.last_sequence, self.last_commit_at = commit.sequence, commit.time
            self._bytes_read += len(commit.payload) + referenced_output_bytes(events)
        if commits:
            await self.fetch_outputs()

    async def retry(self, call: Callable[[], Awaitable[T]]) -> T:
        """Call until NATS answers, unless the worker is stopping."""
        return await retry_unavailable(call, lambda: self.is_draining)
