"""Write structured logs, as one JSON object a line or as text."""

import functools
import logging
import os
import sys
import traceback
from collections.abc import Callable, MutableMapping
from typing import Any, Final

import structlog

from tailrace_shared.process.tracing import add_trace_id
from tailrace_shared.redact.credentials import redact_credentials
from tailrace_shared.settings import CommonSettings

# Local variables hold inputs, outputs and credentials, which must not be logged.
_TRACEBACKS: Final = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
)
_MAX_CHAIN: Final = 50
_MAX_TRACEBACK_CHARACTERS: Final = 16_384


def configure_logging(
    settings: CommonSettings, service: str, redact: Callable[[str], str] = redact_credentials
) -> None:
    """Send structlog's and the standard library's records through one formatter to stderr.

    Args:
        service: the name of the service, a field of every line.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        add_trace_id,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: list[structlog.typing.Processor] = (
        [_render_traceback, structlog.processors.JSONRenderer()]
        if settings.log_format == "json"
        else [
            structlog.dev.ConsoleRenderer(
                colors=_has_colors(), exception_formatter=structlog.dev.plain_traceback
            )
        ]
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *renderer,
                functools.partial(_redact_line, redact),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=settings.log_level.upper(), force=True)
    # nats-py also logs what it passes to the error callback.
    logging.getLogger("nats").setLevel(logging.CRITICAL)
    # httpx logs every URL that it requests, and a query may hold credentials.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    structlog.contextvars.bind_contextvars(service=service)


def _render_traceback(
    logger: Any, name: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Render an exception as fields, or as a text if its causes form a circle or a long chain."""
    given = event.get("exc_info")
    error = given if isinstance(given, BaseException) else sys.exc_info()[1]
    if isinstance(given, tuple):
        error = given[1]
    if given and error is not None and _is_long_chain(error):
        event.pop("exc_info")
        text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        event["exception"] = text[-_MAX_TRACEBACK_CHARACTERS:]
    # The library would follow a circle of causes for ever.
    rendered: structlog.typing.EventDict = _TRACEBACKS(logger, name, event)
    return rendered


def _is_long_chain(error: BaseException) -> bool:
    for _ in range(_MAX_CHAIN):
        following = error.__cause__ or error.__context__
        if following is None:
            return False
        error = following
    return True


def _has_colors() -> bool:
    # https://no-color.org
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR")


def _redact_line(
    redact: Callable[[str], str], _logger: Any, _method: str, line: str | MutableMapping[str, Any]
) -> Any:
    # Applied to the finished line, so that it covers message, fields and traceback.
    return redact(line) if isinstance(line, str) else line
