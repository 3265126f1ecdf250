"""Every error that crosses a module boundary. A name says whose fault it is."""


class ServiceError(Exception):
    """The base of all errors that Tailrace raises on purpose."""


class StartupError(ServiceError):
    """The process cannot start as configured; the message says in one line what to do."""


class SettingsError(StartupError):
    """A setting is unknown or does not have the type it needs."""


class TopologyMismatchError(StartupError):
    """A stream or bucket exists with a configuration that Tailrace does not work with."""


class InvalidIdError(ServiceError, ValueError):
    """An id is not ``[A-Za-z0-9_-]{1,64}`` and so may not become part of a subject."""


class UnavailableError(ServiceError):
    """NATS did not answer in time; the caller may try again."""


class TemporarilyUnavailableError(UnavailableError):
    """JetStream answered that it cannot serve a request now; the caller should send it again."""


class JetStreamError(ServiceError):
    """JetStream refused a request.

    Attributes:
        code: JetStream's error code, for example 10071 (wrong last sequence).
    """

    def __init__(self, code: int, description: str) -> None:
        super().__init__(f"JetStream error {code}: {description}")
        self.code = code


class WrongLastSequenceError(JetStreamError):
    """A fenced append lost: somebody else wrote to the subject first.

    Attributes:
        last: the subject's last sequence as JetStream gives it, 0 if it holds nothing; None if
            JetStream does not say.
    """

    def __init__(self, code: int, description: str) -> None:
        super().__init__(code, description)
        _, _, number = description.rpartition(": ")
        self.last = int(number) if number.isdecimal() else None


class MessageTooLargeError(ServiceError):
    """A message is larger than this NATS takes; to try again does not help."""


class ExecutionNotFoundError(ServiceError):
    """The log holds no such execution for this tenant."""


class HistoryExpiredError(ExecutionNotFoundError):
    """The log holds the execution's later commits, but not its first any more."""


class NewerLogError(ServiceError):
    """A commit was written by a newer version of Tailrace, which this one cannot read."""


class WorkflowNotFoundError(ServiceError):
    """The tenant has no such workflow, or not in that version."""


class ScheduleNotFoundError(ServiceError):
    """The tenant has no such schedule."""


class InvalidScheduleError(ServiceError):
    """JetStream does not take a schedule.

    Attributes:
        field: what is wrong, ``cron`` or ``time_zone``.
    """

    def __init__(self, field: str, description: str) -> None:
        super().__init__(description)
        self.field = field


class DeadLetterNotFoundError(ServiceError):
    """There is no such dead letter: it never was, or was replayed, deleted or has expired."""


class OutputNotFoundError(ServiceError):
    """An output that is kept by reference is not there any more."""


class OutputTooLargeError(ServiceError):
    """A step's output is larger than may be kept."""


class TriggerTooLargeError(ServiceError):
    """A trigger carries more data than an event may hold."""


class TooManyRunsError(ServiceError):
    """The tenant has started as many runs within a minute as it may.

    Attributes:
        retry_after: seconds until it may start the next one.
    """

    def __init__(self, per_minute: int, retry_after: int) -> None:
        super().__init__(
            f"this organization may start {per_minute} runs a minute; start the next one in "
            f"{retry_after} s"
        )
        self.retry_after = retry_after


class IllegalCommandError(ServiceError):
    """The execution's state does not allow the command; the message says why."""


class IdempotencyConflictError(ServiceError):
    """An idempotency key was used before with another request."""


class ExpressionError(ServiceError):
    """An expression could not be evaluated on the values at hand."""


class InvalidExpressionError(ExpressionError):
    """The text is not an expression that Tailrace accepts.

    Attributes:
        column: the position of the error in the text, counted from 1.
    """

    def __init__(self, message: str, column: int) -> None:
        super().__init__(f"{message} (column {column})")
        self.column = column
