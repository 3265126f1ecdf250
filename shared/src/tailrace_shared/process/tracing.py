"""Traces by OpenTelemetry, if an endpoint is set; otherwise its libraries are not even imported.

The libraries are an extra, ``tracing``, and are configured by their own variables (``OTEL_…``).
Each drive is a trace of its own, because an execution may last for months: a job is a link from the
span that published it to the drive that it causes. Attributes and exceptions pass the redactor.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from tailrace_shared.errors import StartupError

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_FLUSH_MS: Final = 3000
_SAMPLED: Final = 1

Redact = Callable[[str], str]


class _Active:
    """The tracing of this process, for functions that every job and log line calls."""

    tracing: "Tracing | None" = None


def start_tracing(service: str, redact: Redact) -> "Tracing | None":
    """Start tracing if the environment names an endpoint; return None otherwise.

    Args:
        service: the name of the service.
        redact: removes secrets from a text.

    Raises:
        StartupError: an endpoint is set, but the libraries are missing.
    """
    is_off = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    endpoint = next(filter(None, map(os.environ.get, _ENDPOINTS)), "")
    _Active.tracing = None if is_off or not endpoint else Tracing(service, redact)
    return _Active.tracing


def current_traceparent() -> str:
    """Return the current span as a W3C ``traceparent``; empty if there is none."""
    return "" if _Active.tracing is None else _Active.tracing.traceparent()


def current_trace_id() -> str:
    """Return the id of the current trace; empty if there is none, or if it is not sampled."""
    if _Active.tracing is None:
        return ""
    if not (parent := _Active.tracing.traceparent()):
        return ""
    _, trace_id, _, flags = parent.split("-")
    return trace_id if int(flags, 16) & _SAMPLED else ""


def add_trace_id(_logger: Any, _name: str, event: Any) -> Any:
    """Add the id of the current trace to a log line, as a processor of structlog."""
    if _Active.tracing is not None and (parent := _Active.tracing.traceparent()):
        event["trace_id"] = parent.split("-")[1]
    return event


class Tracing:
    """Makes the spans of one process.

    Args:
        service: the name of the service, unless ``OTEL_SERVICE_NAME`` is set.
        redact: removes secrets from a text.

    Raises:
        StartupError: the libraries are missing.
    """

    def __init__(self, service: str, redact: Redact) -> None:
        try:
            from opentelemetry import trace  # noqa: PLC0415 - an extra
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
            from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
            from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
            from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        except ImportError:
            raise StartupError(
                "OTEL_EXPORTER_OTLP_ENDPOINT is set, and OpenTelemetry is not installed: install "
                "the extra `tracing`, or set OTEL_SDK_DISABLED=true"
            ) from None
        own = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": f"tailrace-{service}"}
        self._trace = trace
        self._provider = TracerProvider(resource=Resource.create(own), shutdown_on_exit=False)
        # Not a subclass of theirs, which is known only once it is imported.
        exporter: Any = RedactingExporter(OTLPSpanExporter(), redact)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("tailrace")

    @contextmanager
    def root(
        self, name: str, link: str, attributes: Mapping[str, str | int] | None = None
    ) -> Iterator[Any]:
        """Make a span that begins a trace current.

        Args:
            name: its name.
            link: the ``traceparent`` of what caused it; empty for none.
            attributes: its attributes.
        """
        empty = self._trace.set_span_in_context(self._trace.INVALID_SPAN)
        with self._tracer.start_as_current_span(
            name, context=empty, links=self._links(link), attributes=attributes
        ) as span:
            yield span

    @contextmanager
    def child(
        self, name: str, attributes: Mapping[str, str | int] | None = None, parent: str = ""
    ) -> Iterator[Any]:
        """Make a child of the current span current, or of the span of a ``traceparent``."""
        context = None
        if parent:
            remote = self._trace.NonRecordingSpan(self._context(parent))
            context = self._trace.set_span_in_context(remote)
        with self._tracer.start_as_current_span(
            name, context=context, attributes=attributes
        ) as span:
            yield span

    def short(
        self,
        name: str,
        attributes: Mapping[str, str | int],
        *,
        link: str = "",
        seconds: float = 0.0,
    ) -> str:
        """Record a span of its own that has just ended; return its ``traceparent``."""
        now = time.time_ns()
        empty = self._trace.set_span_in_context(self._trace.INVALID_SPAN)
        span = self._tracer.start_span(
            name,
            context=empty,
            links=self._links(link),
            attributes=attributes,
            start_time=now - int(seconds * 1e9),
        )
        span.end(now)
        return _traceparent(span.get_span_context())

    def fail(self, span: Any, message: str) -> None:
        """Mark a span as failed."""
        span.set_status(self._trace.StatusCode.ERROR, message)

    def traceparent(self) -> str:
        """Return the current span as a W3C ``traceparent``; empty if there is none."""
        context = self._trace.get_current_span().get_span_context()
        return _traceparent(context) if context.is_valid else ""

    def shutdown(self) -> None:
        """Send the spans that have not been sent, for three seconds at most."""
        self._provider.force_flush(_FLUSH_MS)

    def _links(self, traceparent: str) -> list[Any]:
        context = self._context(traceparent)
        return [self._trace.Link(context)] if context.is_valid else []

    def _context(self, traceparent: str) -> Any:
        try:
            _version, trace_id, span_id, flags = traceparent.split("-")
            numbers = int(trace_id, 16), int(span_id, 16), int(flags, 16)
        except ValueError:  # of a client, or empty
            return self._trace.INVALID_SPAN_CONTEXT
        return self._trace.SpanContext(
            numbers[0], numbers[1], is_remote=True, trace_flags=self._trace.TraceFlags(numbers[2])
        )


class RedactingExporter:
    """Passes spans to an exporter without secrets in their attributes, events and status.

    Args:
        exporter: sends spans.
        redact: removes secrets from a text.
    """

    def __init__(self, exporter: Any, redact: Redact) -> None:
        self._exporter = exporter
        self._redact = redact

    def export(self, spans: Sequence[Any]) -> Any:
        """Send spans."""
        return self._exporter.export([self._redacted(span) for span in spans])

    def shutdown(self) -> None:
        """Close the connection."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = _FLUSH_MS) -> bool:
        """Send the spans that have not been sent."""
        return bool(self._exporter.force_flush(timeout_millis))

    def _redacted(self, span: Any) -> Any:
        from opentelemetry.sdk.trace import Event, ReadableSpan  # noqa: PLC0415 - an extra
        from opentelemetry.trace import Status  # noqa: PLC0415

        status = span.status
        if status.description:
            status = Status(status.status_code, self._redact(status.description))
        events = [
            Event(event.name, self._values(event.attributes), event.timestamp)
            for event in span.events
        ]
        return ReadableSpan(
            name=span.name,
            context=span.context,
            parent=span.parent,
            resource=span.resource,
            attributes=self._values(span.attributes),
            events=events,
            links=span.links,
            kind=span.kind,
            status=status,
            start_time=span.start_time,
            end_time=span.end_time,
            instrumentation_scope=span.instrumentation_scope,
        )

    def _values(self, attributes: Mapping[str, Any] | None) -> dict[str, Any]:
        return {
            name: self._redact(value) if isinstance(value, str) else value
            for name, value in (attributes or {}).items()
        }


def _traceparent(context: Any) -> str:
    flags = int(context.trace_flags)
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{flags:02x}"
