"""Represent a running attempt of a step (the ``ctx`` of the node function) and its reports.

A node may report from a thread, and faster than any client can read. Reports are kept here, and
taken by the drive at most five times a second (the newest progress and all log lines), and once
more when the attempt ends.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec

from tailrace_shared.execution.events import (
    Event,
    StepLog,
    StepLogged,
    StepProgress,
    StepProgressed,
)
from tailrace_shared.execution.state import StepState
from tailrace_shared.execution.timestamps import format_timestamp
from tailrace_shared.json_encoding import NotJsonError, encode_json
from tailrace_worker.engine.decide.sensitivity import SensitivityMarks
from tailrace_worker.engine.run.output_budget import UNLIMITED, OutputBudget
from tailrace_worker.nodes.node import NodeFailedError
from tailrace_worker.nodes.raised import is_a
from tailrace_worker.secrets.redactor import Redactor

REPORT_INTERVAL: Final = 0.2
MAX_LINES: Final = 1000
MAX_MESSAGE_CHARACTERS: Final = 2048
MAX_FIELDS_BYTES: Final = 8192


class Attempt:
    """A running attempt, and the ``ctx`` that the node function gets.

    Args:
        wake: called on that loop when there are reports to take.
        now: returns the time in seconds since the epoch.
        budget: what the attempt's output counts against.

    Attributes:
        begun: when it was launched, by the monotonic clock.
        held: the output, while it is in memory.
        keeps_output: whether the outcome has an output that is stored outside of the log. To decode
            megabytes that no expression uses would hold the interpreter's lock for nothing.
        sensitivity: knows the sensitive places of the execution; None if nothing is marked.
    """

    def __init__(
        self,
        tenant: str,
        execution_id: str,
        step: StepState,
        loop: asyncio.AbstractEventLoop,
        wake: Callable[[], None],
        now: Callable[[], float] = time.time,
        budget: OutputBudget = UNLIMITED,
    ) -> None:
        self.tenant = tenant
        self.execution_id = execution_id
        self.node_id = step.node_id
        self.node_type = step.node_type
        self.attempt = step.attempt
        self.begun = time.monotonic()
        self._stage = step.stage
        self._name = step.name
        self.sensitivity: SensitivityMarks | None = None
        self.redactor: Redactor | None = None
        self.task: asyncio.Task[None] | None = None
        self._loop = loop
        self._wake = wake
        self._now = now
        self.held = budget.open(tenant)
        self.keeps_output = True
        self._cancelled = False
        self._lines = 0
        self._reports: list[Event] = []
        self._progress: StepProgressed | None = None
        self._next_report = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.is_due = False

    # The node's side, on any thread

    @property
    def idempotency_key(self) -> str:
        """A key that is the same for every attempt of this step."""
        return f"{self.execution_id}:{self.node_id}"

    @property
    def cancelled(self) -> bool:
        """Whether the attempt's result is no longer wanted."""
        return self._cancelled

    def progress(self, percent: float, message: str = "", **fields: Any) -> None:
        """Report the progress of the node.

        Args:
            percent: from 0 to 100; values outside are clamped; NaN counts as 0.
            message: shown to clients, at most 2048 characters.
            fields: JSON values, at most 8 KiB together.

        Raises:
            NodeFailedError: the fields are not JSON, or too large; the message says where.
        """
        clamped = round(min(100.0, max(0.0, float(percent))), 2)
        data = StepProgress(
            self.node_id,
            self.node_type,
            clamped,
            self._message(message),
            self._checked(fields),
            stage=self._stage,
            name=self._name,
        )
        self._report(StepProgressed(data, format_timestamp(self._now())))

    def log(self, message: str, level: str = "info", **fields: Any) -> None:
        """Write a line to the execution's log; at most 1000 lines an attempt are kept.

        Args:
            message: at most 2048 characters.
            level: at most 16 characters.
            fields: JSON values, at most 8 KiB together.

        Raises:
            NodeFailedError: the fields are not JSON, or too large.
        """
        data = StepLog(
            self.node_id,
            self.node_type,
            encodable(self._redacted(str(level))[:16]),
            self._message(message),
            self._checked(fields),
        )
        self._report(StepLogged(data, format_timestamp(self._now())))

    def marks(self, parameter: str, value: Any) -> list[str]:
        """Return the sensitive places in a parameter's value, as JSON Pointers."""
        return (
            []
            if self.sensitivity is None
            else self.sensitivity.parameter_pointers(self.node_id, parameter, value)
        )

    def _message(self, message: Any) -> str:
        # Redact before the cut: half of a secret would not be recognised.
        return encodable(self._redacted(str(message))[:MAX_MESSAGE_CHARACTERS])

    def _checked(self, fields: dict[str, Any]) -> dict[str, Any]:
        decoded = _checked(fields)
        return decoded if self.redactor is None else self.redactor.redact_value(decoded)

    def _redacted(self, text: str) -> str:
        return text if self.redactor is None else self.redactor.redact_text(text)

    def _report(self, event: StepProgressed | StepLogged) -> None:
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is self._loop:
            self._add(event)
        else:
            self._loop.call_soon_threadsafe(self._add, event)

    # The drive's side, on the engine's loop

    def mark_cancelled(self) -> None:
        """Let the node observe that its result is not wanted; a thread cannot be interrupted."""
        self._cancelled = True

    def cancel(self) -> None:
        """Let the node observe that its result is not wanted, and cancel its task."""
        self.mark_cancelled()
        if self.task is not None:
            self.task.cancel()

    def close(self) -> None:
        """Stop the timer for reports."""
        if self._timer is not None:
            self._timer.cancel()

    def take_reports(self) -> list[Event]:
        reports = self._reports
        if self._progress is not None:
            reports = sorted([*reports, self._progress], key=lambda report: report.timestamp)
        self._reports, self._progress = [], None
        self._timer, self.is_due = None, False
        self._next_report = self._loop.time() + REPORT_INTERVAL
        return reports

    def _add(self, event: StepProgressed | StepLogged) -> None:
        if isinstance(event, StepProgressed):
            self._progress = event
        elif self._lines < MAX_LINES:
            self._lines += 1
            self._reports.append(event)
        if self._timer is None:
            self._timer = self._loop.call_at(self._next_report, self._become_due)

    def _become_due(self) -> None:
        self.is_due = True
        self._wake()


def is_abandoned(error: BaseException, attempt: Attempt) -> bool:
    """Return whether an error that ends an attempt's task means that no outcome is wanted."""
    if is_a(error, asyncio.CancelledError):
        # A function may cancel the task that runs it.
        return attempt.cancelled
    # The task's coroutine is closed together with its loop.
    return is_a(error, GeneratorExit)


def encodable(text: str) -> str:
    """Return ``text`` with unpaired surrogates, which UTF-8 cannot encode, escaped."""
    return text.encode(errors="backslashreplace").decode()


def _checked(fields: dict[str, Any]) -> dict[str, Any]:
    try:
        encoded = encode_json(fields)
    except NotJsonError as error:
        raise NodeFailedError(f"a report's fields must be JSON: {error}") from None
    if len(encoded) > MAX_FIELDS_BYTES:
        raise NodeFailedError(
            f"a report's fields are {len(encoded)} bytes; the limit is {MAX_FIELDS_BYTES}"
        )
    decoded: dict[str, Any] = msgspec.json.decode(encoded)
    return decoded
