"""Read on in a log that a drive writes, and detect other writers."""

from collections.abc import Iterable

from tailrace_shared.errors import ExecutionNotFoundError, ServiceError, UnavailableError
from tailrace_shared.stores.execution_log import ExecutionLog
from tailrace_shared.stores.log_records import Commit, History
from tailrace_worker.engine.drive.log_writer import LogWriter


class DisplacedError(ServiceError):
    """Another worker drives the execution now."""


class LogWentBackError(ServiceError):
    """NATS has lost commits that this worker had read or written."""


class LogReader:
    """Reads commits that its drive has neither written nor read.

    Args:
        log: reads logs.
        writer: writes the log of the execution; knows how far the drive has read it.
        tenant: the tenant of the execution.
        execution: the id of the execution.
        worker_id: the id of this worker.
    """

    def __init__(
        self, log: ExecutionLog, writer: LogWriter, tenant: str, execution: str, worker_id: str
    ) -> None:
        self._log = log
        self._writer = writer
        self._tenant = tenant
        self._execution = execution
        self._worker_id = worker_id

    async def new_commits(self) -> list[Commit]:
        """Return the commits that the drive has not read, as the stream's leader has them.

        Raises:
            DisplacedError: the log is gone.
            LogWentBackError: NATS has lost commits.
            UnavailableError: NATS did not answer, or a lagging replica answered.
        """
        known = self._writer.last_sequence
        newest = await self._log.last_commit(self._tenant, self._execution, at_least=known)
        if newest is None:
            raise DisplacedError("the log is gone: expired or purged")
        if newest.sequence < known:
            raise LogWentBackError(f"the log ends at {newest.sequence}, and was at {known}")
        if newest.sequence == self._writer.last_sequence:
            return []
        commits = await self._unseen()
        if not commits or commits[-1].sequence < newest.sequence:
            raise UnavailableError("a replica lags behind the log's leader")
        return commits

    async def reload(self, known: int) -> tuple[list[Commit], History]:
        """Return the commits that the drive has not read, and the whole log folded.

        Args:
            known: a sequence that the log is known to reach.

        Raises:
            DisplacedError: the log is gone.
            UnavailableError: NATS did not answer, or a lagging replica answered.
        """
        try:
            history = await self._log.load(self._tenant, self._execution, at_least=known)
        except ExecutionNotFoundError as error:
            raise DisplacedError("the log is gone: expired or purged") from error
        # Read after the history, so that the writers of all its commits are checked.
        commits = await self._unseen()
        seen = commits[-1].sequence if commits else self._writer.last_sequence
        if seen < history.last_sequence:
            raise UnavailableError("a replica lags behind what another has answered")
        return commits, history

    def check(self, commits: Iterable[Commit]) -> None:
        """Raise an error if another worker has written one of the commits.

        Raises:
            DisplacedError: another worker has.
        """
        for commit in commits:
            if commit.writer not in {"", self._worker_id}:
                raise DisplacedError(f"{commit.writer} has appended at {commit.sequence}")

    async def _unseen(self) -> list[Commit]:
        first = self._writer.last_sequence + 1
        return [commit async for commit in self._log.read(self._tenant, self._execution, first)]
