"""Errors that cross module boundaries."""


class ServiceError(Exception):
    """Base class of all expected errors of the API and the worker."""


class StartupError(ServiceError):
    """The process cannot start as configured; the message is one line with the remedy."""


class SettingsError(StartupError):
    """A setting is unknown or has an invalid value."""


class NatsUnreachableError(StartupError):
    """No server of ``NATS_URL`` answers within the limit of the start."""


class TopologyMismatchError(StartupError):
    """A stream or bucket exists with an incompatible configuration."""


class InvalidIdError(ServiceError, ValueError):
    """An id is not ``[A-Za-z0-9_-]{1,64}``, so it must not become part of a subject."""


class UnavailableError(ServiceError):
    """NATS did not answer in time; the caller may retry."""


class LaggingReplicaError(UnavailableError):
    """All replicas that answered lag behind what the caller knows to exist."""


class TemporarilyUnavailableError(UnavailableError):
    """JetStream answered that it cannot serve a request now; the caller should send it again."""


class StoreFailedError(TemporarilyUnavailableError):
    """JetStream cannot store messages now, for example because its disk is full."""


class StoreFullError(StoreFailedError):
    """A stream has reached its size limit; it takes messages again once some are deleted."""


class JetStreamError(ServiceError):
    """JetStream refused a request.

    Attributes:
        code: JetStream's error code, for example 10071 (wrong last sequence).
    """

    def __init__(self, code: int, description: str) -> None:
        super().__init__(f"JetStream error {code}: {description}")
        self.code = code


class WrongLastSequenceError(JetStreamError):
    """A fenced append lost: another writer wrote to the subject first.

    Attributes:
        last: the last sequence of the subject, 0 if it is empty, or None if JetStream does not
            report it.
    """

    def __init__(self, code: int, description: str) -> None:
        super().__init__(code, description)
        _, _, number = description.rpartition(": ")
        self.last = int(number) if number.isdecimal() else None


class MessageTooLargeError(ServiceError):
    """A message exceeds the limit of the NATS server; a retry cannot succeed."""


class ExecutionNotFoundError(ServiceError):
    """The log has no such execution for this tenant."""


class HistoryExpiredError(ExecutionNotFoundError):
    """The retention of the log has deleted the first commits of the execution."""


class NewerLogError(ServiceError):
    """A commit was written by a newer version of Tailrace that this one cannot read."""


class WorkflowNotFoundError(ServiceError):
    """The tenant has no such workflow or version."""


class ScheduleNotFoundError(ServiceError):
    """The tenant has no such schedule."""


class InvalidScheduleError(ServiceError):
    """JetStream refused a schedule."""

    def __init__(self, field: str, description: str) -> None:
        super().__init__(description)
        self.field = field


class DeadLetterNotFoundError(ServiceError):
    """The dead letter does not exist, or was replayed or deleted, or has expired."""


class OutputNotFoundError(ServiceError):
    """A referenced output has been deleted."""


class OutputTooLargeError(ServiceError):
    """A step's output exceeds the size limit."""


class TriggerTooLargeError(ServiceError):
    """The data of a trigger exceeds the size limit of an event."""


class TooManyLiveRunsError(ServiceError):
    """The tenant has as many executions that have not ended as it may have."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"this organization has {limit} runs that have not ended, which is the limit "
            "(TAILRACE_MAX_LIVE_RUNS)"
        )


class TooManyDescendantsError(ServiceError):
    """A run has started as many runs, directly or not, as it may start."""

    def __init__(self, root: str, limit: int) -> None:
        super().__init__(
            f"run {root} has started {limit} runs below it, which is the limit "
            "(TAILRACE_MAX_DESCENDANTS)"
        )


class RateLimitError(ServiceError):
    """The tenant has reached a limit per minute.

    Attributes:
        retry_after: seconds until the next request may succeed.
    """

    def __init__(self, rule: str, retry_after: int) -> None:
        super().__init__(f"this organization may {rule}; retry in {retry_after} s")
        self.retry_after = retry_after


class TooManyRunsError(RateLimitError):
    """The tenant has reached its limit of runs per minute."""

    def __init__(self, per_minute: int, retry_after: int) -> None:
        rule = f"start {per_minute} runs per minute (TAILRACE_MAX_RUNS_PER_MINUTE)"
        super().__init__(rule, retry_after)


class TooManyMessagesError(RateLimitError):
    """The tenant has reached its limit of feed messages per minute."""

    def __init__(self, per_minute: int, retry_after: int) -> None:
        rule = f"publish {per_minute} messages per minute (TAILRACE_MAX_MESSAGES_PER_MINUTE)"
        super().__init__(rule, retry_after)


class IllegalCommandError(ServiceError):
    """The state of the execution does not allow the command; the message says why."""


class IdempotencyConflictError(ServiceError):
    """The idempotency key was used before with a different request."""


class ExpressionError(ServiceError):
    """An expression could not be evaluated."""


class InvalidExpressionError(ExpressionError):
    """The text is not an expression that Tailrace accepts.

    Attributes:
        column: the position of the error in the text, counted from 1.
    """

    def __init__(self, message: str, column: int) -> None:
        super().__init__(f"{message} (column {column})")
        self.column = column
