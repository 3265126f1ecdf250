"""Let the actor of a message continue the trace of the code that enqueued it.

The W3C ``traceparent`` (and ``tracestate``) travel in the message's options, so that retries,
pipelines and dead letters keep them, and in the NATS headers. The broker does not interpret them:
the program sets the context before it enqueues, and reads it in its actors.
"""

# ruff: noqa: ARG002 - the signatures are Dramatiq's

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, NamedTuple

from dramatiq import Message
from dramatiq.broker import Broker, MessageProxy
from dramatiq.middleware import Middleware


class Trace(NamedTuple):
    """A trace context in the form of the W3C headers."""

    traceparent: str
    tracestate: str = ""


_current: Final[ContextVar[Trace | None]] = ContextVar("trace", default=None)


def current_trace() -> Trace | None:
    """Return the trace context of the current actor or ``trace`` block."""
    return _current.get()


@contextmanager
def trace(context: Trace) -> Iterator[None]:
    """Enqueue the messages of this block as part of a trace."""
    token = _current.set(context)
    try:
        yield
    finally:
        _current.reset(token)


class TraceContext(Middleware):
    """Passes the trace context through messages."""

    def before_enqueue(self, broker: Broker, message: "Message[Any]", delay: int | None) -> None:
        """Add the current trace context to a message that has none."""
        context = _current.get()
        if context is not None and "traceparent" not in message.options:
            message.options["traceparent"] = context.traceparent
            if context.tracestate:
                message.options["tracestate"] = context.tracestate

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        """Set the message's trace context on this worker thread."""
        traceparent = message.options.get("traceparent")
        _current.set(
            Trace(traceparent, message.options.get("tracestate", "")) if traceparent else None
        )

    def after_process_message(
        self,
        broker: Broker,
        message: MessageProxy,
        *,
        result: Any = None,
        exception: BaseException | None = None,
    ) -> None:
        """Clear the trace context of this worker thread."""
        _current.set(None)

    after_skip_message = after_process_message
