"""Enqueue a copy of a message at every firing of a JetStream schedule."""

from typing import Any, Final

from dramatiq import Message
from dramatiq.errors import BrokerError

from tailrace_shared.nats.jobs import recurring_headers
from tailrace_shared.subjects import Subjects
from tailrace_worker.broker.link.errors import refusal_code
from tailrace_worker.broker.message import encode_message
from tailrace_worker.broker.stream_writer import StreamWriter

#: JetStream's error codes for an invalid pattern and an invalid time zone.
_INVALID_SCHEDULE: Final = {10189, 10223}


class RecurringMessages:
    """Stores schedules of recurring messages."""

    def __init__(self, subjects: Subjects, writer: StreamWriter) -> None:
        self._subjects = subjects
        self._writer = writer

    def store(
        self,
        message: "Message[Any]",
        pattern: str,
        *,
        target: str,
        schedule_id: str,
        time_zone: str | None,
    ) -> None:
        """Store a schedule, or replace the one with the same id.

        Args:
            pattern: ``@every 5m``, a cron line of five or six fields, or a name like ``@hourly``.
            time_zone: the IANA time zone of a cron line; None for UTC.

        Raises:
            ValueError: the pattern or the time zone is invalid.
            ConnectionClosed: JetStream did not confirm in time.
            BrokerError: JetStream refused.
        """
        publish = self._writer.prepare(
            self._subjects.job_cron(message.queue_name, schedule_id),
            encode_message(message),
            recurring_headers(pattern, target=target, time_zone=time_zone),
        )
        self._writer.post(publish)
        try:
            self._writer.confirm(publish)
        except BrokerError as error:
            if refusal_code(error) in _INVALID_SCHEDULE:
                zone = f" in {time_zone}" if time_zone else ""
                raise ValueError(f"{pattern!r}{zone} is not a schedule: {error}") from None
            raise
