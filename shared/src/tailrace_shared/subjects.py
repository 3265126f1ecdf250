"""Names of all NATS subjects and streams.

The tenant is a token of each subject. A request builds its subjects from its own tenant, so it
cannot address the data of another tenant.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Final, NamedTuple

from tailrace_shared.errors import InvalidIdError
from tailrace_shared.ids import check_id, is_valid_procedure

_QUEUE: Final = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_LINE: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")


DRIVEN: Final = b"1"
"""A worker's answer on its subject (``Subjects.worker``) that it drives the execution asked for."""

FEED: Final = "~feed"
"""The token that stands for the execution in the subject of messages to a tenant's feed.

They are in the log, so that the feed shows them in order and resumes over them. No execution can
have this name, because it is no id.
"""


class LogFilter(NamedTuple):
    """A part of the log that can be read and followed as a whole.

    Attributes:
        execution: the execution, or empty for all of the tenant.
    """

    tenant: str
    execution: str = ""


@dataclass(frozen=True, slots=True)
class Subjects:
    """The names of one installation. Installations with different prefixes can share a NATS.

    Args:
        prefix: the first token of every subject. If it is not ``tr``, stream and bucket names
            begin with it as well.
    """

    prefix: str = "tr"

    def __post_init__(self) -> None:
        check_id(self.prefix, "prefix")

    def stream(self, name: str) -> str:
        return name if self.prefix == "tr" else f"{self.prefix}-{name}"

    def log(self, tenant: str, execution: str) -> str:
        return f"{self.prefix}.log.{check_id(tenant, 'tenant')}.{check_id(execution, 'execution')}"

    def live(self, tenant: str, execution: str) -> str:
        return f"{self.prefix}.live.{check_id(tenant, 'tenant')}.{check_id(execution, 'execution')}"

    def tenant_log(self, tenant: str) -> str:
        return f"{self.prefix}.log.{check_id(tenant, 'tenant')}.>"

    def tenant_live(self, tenant: str) -> str:
        return f"{self.prefix}.live.{check_id(tenant, 'tenant')}.>"

    def logs(self) -> str:
        """Return the wildcard over the logs of all executions of all tenants."""
        return f"{self.prefix}.log.*.*"

    def live_logs(self) -> str:
        """Return the wildcard over the live commits of all executions of all tenants."""
        return f"{self.prefix}.live.*.*"

    def log_of(self, part: LogFilter) -> str:
        tenant, execution = part
        return self.log(tenant, execution) if execution else self.tenant_log(tenant)

    def live_of(self, part: LogFilter) -> str:
        tenant, execution = part
        return self.live(tenant, execution) if execution else self.tenant_live(tenant)

    def feed(self, tenant: str | None) -> str:
        """Return the subject of the messages to a tenant's feed; for None that of all tenants."""
        which = "*" if tenant is None else check_id(tenant, "tenant")
        return f"{self.prefix}.log.{which}.{FEED}"

    def execution_of(self, log_subject: str) -> tuple[str, str]:
        """Return the tenant and execution of a log or live subject.

        Raises:
            InvalidIdError: if ``log_subject`` is neither.
        """
        match log_subject.split("."):
            case [self.prefix, "log" | "live", tenant, execution] if tenant and execution:
                return tenant, execution
        raise InvalidIdError(f"{log_subject!r} is not the subject of an execution")

    def worker(self, worker_id: str) -> str:
        """Return the subject on which a worker says whether it drives an execution."""
        return f"{self.prefix}.worker.{worker_id}"

    def components(self) -> str:
        """Return the subject on which each service answers for itself."""
        return f"{self.prefix}.components"

    def inboxes(self, service: str) -> str:
        """Return the prefix of the subjects of replies to a service.

        Each service has its own, so that permissions can keep others from reading its replies.
        """
        return f"_INBOX.{self.prefix}.{service}"

    def clients(self) -> str:
        """Return the subject on which API replicas answer with a tenant's number of clients."""
        return f"{self.prefix}.api.clients"

    def job(self, queue: str, priority: str = "normal") -> str:
        subject = f"{self.prefix}.jobs.{queue_token(queue)}"
        return subject if priority == "normal" else f"{subject}.{priority}"

    def jobs(self) -> str:
        """Return the wildcard over the jobs of all queues, without those of another priority."""
        return f"{self.prefix}.jobs.*"

    def job_at(self, queue: str, schedule_id: str) -> str:
        """Return the subject of a delayed job; a new schedule with the same id replaces it."""
        return f"{self.prefix}.jobs.at.{queue_token(queue)}.{check_id(schedule_id, 'schedule')}"

    def delayed(self, queue: str) -> str:
        """Return the wildcard over all delayed jobs of a queue."""
        return f"{self.prefix}.jobs.at.{queue_token(queue)}.*"

    def job_cron(self, queue: str, schedule_id: str) -> str:
        return f"{self.prefix}.jobs.cron.{queue_token(queue)}.{check_id(schedule_id, 'schedule')}"

    def run_schedule(self, tenant: str, schedule_id: str) -> str:
        """Return the subject of a schedule that starts runs.

        It has one token more than the subjects of queues, so no consumer receives it as a job.
        """
        return f"{self._run_schedules(tenant)}.{check_id(schedule_id, 'schedule')}"

    def run_schedules(self, tenant: str) -> str:
        """Return the wildcard over all schedules of a tenant."""
        return f"{self._run_schedules(tenant)}.*"

    @property
    def all_run_schedules(self) -> str:
        """The wildcard over all schedules of all tenants."""
        return f"{self.prefix}.jobs.starts.*.*"

    def _run_schedules(self, tenant: str) -> str:
        return f"{self.prefix}.jobs.starts.{check_id(tenant, 'tenant')}"

    def start(self, tenant: str, workflow: str | None, kind: str = "") -> str:
        """Return the subject of the rows of a workflow, or the wildcard over all of a tenant.

        Args:
            tenant: the tenant.
            workflow: the workflow, or None for all.
            kind: the kind of the rows; empty for those that are written at a start.
        """
        which = "*" if workflow is None else check_id(workflow, "workflow")
        subject = f"{self.prefix}.starts.{check_id(tenant, 'tenant')}.{which}"
        return f"{subject}.{kind}" if kind else subject

    def starts_of_all(self, kind: str) -> str:
        """Return the wildcard over the rows of a kind, of all tenants."""
        return f"{self.prefix}.starts.*.*.{kind}"

    def start_of(self, subject: str) -> tuple[str, str, str]:
        """Return tenant, workflow and kind of the subject of a row.

        Raises:
            InvalidIdError: if ``subject`` is none.
        """
        match subject.split("."):
            case [self.prefix, "starts", tenant, workflow]:
                return tenant, workflow, ""
            case [self.prefix, "starts", tenant, workflow, kind]:
                return tenant, workflow, kind
        raise InvalidIdError(f"{subject!r} is not the subject of a start")

    def trigger(self, tenant: str, procedure: str) -> str:
        """Return the subject of a tenant's triggers of a procedure; its dots separate tokens."""
        return f"{self.prefix}.trigger.{check_id(tenant, 'tenant')}.{check_procedure(procedure)}"

    def procedure_of(self, subject: str, tenant: str) -> str | None:
        """Return the procedure of the subject of a tenant's trigger; None for any other."""
        prefix = f"{self.prefix}.trigger.{check_id(tenant, 'tenant')}."
        return subject.removeprefix(prefix) if subject.startswith(prefix) else None

    def output(self, tenant: str, execution: str, name: str, chunk: int) -> str:
        return (
            f"{self.prefix}.output.{check_id(tenant, 'tenant')}."
            f"{check_id(execution, 'execution')}.{check_id(name, 'output')}.{chunk}"
        )

    def outputs(self, tenant: str, execution: str) -> str:
        """Return the wildcard over all outputs of an execution."""
        owner = f"{check_id(tenant, 'tenant')}.{check_id(execution, 'execution')}"
        return f"{self.prefix}.output.{owner}.>"

    def line(self, line: str) -> str:
        """Return the wildcard over all members of a FIFO queue.

        Raises:
            InvalidIdError: if ``line`` is not 1 to 128 letters, digits, ``_`` or ``-``.
        """
        return f"{self._line(line)}.*.*"

    def in_line(self, line: str, tenant: str, execution: str) -> str:
        """Return the subject of an execution in a FIFO queue."""
        member = f"{check_id(tenant, 'tenant')}.{check_id(execution, 'execution')}"
        return f"{self._line(line)}.{member}"

    def _line(self, line: str) -> str:
        if _LINE.fullmatch(line) is None:
            raise InvalidIdError(f"{line[:80]!r} is not the name of a FIFO queue")
        return f"{self.prefix}.line.{line}"

    def rate(self, tenant: str) -> str:
        """Return the subject that counts the run starts of a tenant."""
        return f"{self.prefix}.rate.{check_id(tenant, 'tenant')}"

    def rates(self) -> str:
        """Return the wildcard over the run starts of all tenants."""
        return f"{self.prefix}.rate.*"

    def message_rate(self, tenant: str | None) -> str:
        """Return the subject that counts a tenant's feed messages; for None that of all tenants."""
        which = "*" if tenant is None else check_id(tenant, "tenant")
        return f"{self.prefix}.rate.{which}.messages"

    def descendants(self, tenant: str, root: str) -> str:
        """Return the subject that counts the child runs below a run."""
        tenant, root = check_id(tenant, "tenant"), check_id(root, "execution")
        return f"{self.prefix}.descendants.{tenant}.{root}"

    def all_descendants(self) -> str:
        """Return the wildcard over the child runs below all runs."""
        return f"{self.prefix}.descendants.*.*"

    def restore_gap(self) -> str:
        """Return the subject of the message that a restore puts after skipped sequences."""
        return f"{self.prefix}.restore-gap"

    def dead(self, queue: str) -> str:
        return f"{self.prefix}.dead.{queue_token(queue)}"


def check_procedure(procedure: str) -> str:
    """Return ``procedure`` if it is valid.

    Raises:
        InvalidIdError: it is not ids joined by dots, at most 128 characters.
    """
    if not is_valid_procedure(procedure):
        raise InvalidIdError(
            f"{procedure[:80]!r} is not a procedure: use ids joined by dots, at most 128 characters"
        )
    return procedure


def queue_of_job(subjects: Subjects, subject: str) -> str | None:
    """Return the queue of a subject of jobs; None if it is another subject."""
    match subject.split("."):
        case [subjects.prefix, "jobs", token] | [subjects.prefix, "jobs", token, _]:
            return token.replace("%2E", ".")
    return None


def share_queue(tenant: str) -> str:
    """Return the name of the FIFO queue of a tenant that has its fair share of the workers."""
    return hashlib.sha256(f"share {tenant}".encode()).hexdigest()[:32]


def queue_token(queue: str) -> str:
    """Return ``queue`` as one subject token. Dramatiq allows dots in queue names, NATS does not.

    Raises:
        InvalidIdError: it is not a valid queue name.
    """
    if _QUEUE.fullmatch(queue) is None:
        raise InvalidIdError(
            f"{queue[:80]!r} is not a queue name: use 1 to 128 letters, digits, '_', '-' or '.'"
        )
    return queue.replace(".", "%2E")
