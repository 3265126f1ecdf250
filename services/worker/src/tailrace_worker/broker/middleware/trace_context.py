"""Trace context: whoever enqueues a message and whoever runs it belong to one trace.

The W3C ``traceparent`` (and ``tracestate``) travel in the message's options, so that retries,
pipelines and dead letters keep them, and in the NATS headers. What they mean is left to the
program: it sets the context before it enqueues, and finds it in its actors.
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
    """The context of a trace, as W3C writes it."""

    traceparent: str
    tracestate: str = ""


_current: Final[ContextVar[Trace | None]] = ContextVar("trace", default=None)


def current_trace() -> Trace | None:
    """Return the trace that this actor, or this block, is part of."""
    return _current.get()


@contextmanager
def trace(context: Trace) -> Iterator[None]:
    """Make what is enqueued in this block part of a trace."""
    token = _current.set(context)
    try:
        yield
    finally:
        _current.reset(token)


class TraceContext(Middleware):
    """Passes the trace from the enqueuer to the actor."""

    def before_enqueue(self, broker: Broker, message: "Message[Any]", delay: int | None) -> None:
        """Write the current trace into a message that has none."""
        context = _current.get()
        if context is not None and "traceparent" not in message.options:
            message.options["traceparent"] = context.traceparent
            if context.tracestate:
                message.options["tracestate"] = context.tracestate

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        """Continue the message's trace on this worker thread."""
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
        """Leave the message's trace."""
        _current.set(None)

    after_skip_message = after_process_message
