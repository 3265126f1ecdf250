"""Error responses in the form of problem details (RFC 9457).

All errors of the API have this form, those of the router included. ``detail`` is a sentence for
people; ``errors`` points to the wrong places in the request with JSON Pointers.
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import msgspec
import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route

from tailrace_api.web.json_response import NO_STORE
from tailrace_shared.commands.run_input import InvalidInputError
from tailrace_shared.errors import (
    DeadLetterNotFoundError,
    ExecutionNotFoundError,
    HistoryExpiredError,
    IdempotencyConflictError,
    IllegalCommandError,
    InvalidIdError,
    JetStreamError,
    NewerLogError,
    OutputNotFoundError,
    RateLimitError,
    ScheduleNotFoundError,
    ServiceError,
    StoreFailedError,
    StoreFullError,
    TooManyLiveRunsError,
    TriggerTooLargeError,
    UnavailableError,
    WorkflowNotFoundError,
)
from tailrace_shared.process.log_throttle import LogThrottle
from tailrace_shared.redact.credentials import redact_credentials
from tailrace_shared.workflow.validation import Problem

CONTENT_TYPE: Final = "application/problem+json"

_STATUS: Final[Mapping[type[Exception], int]] = {
    InvalidIdError: 400,
    # Before the error that it is a kind of: the first match counts.
    HistoryExpiredError: 410,
    ExecutionNotFoundError: 404,
    WorkflowNotFoundError: 404,
    ScheduleNotFoundError: 404,
    DeadLetterNotFoundError: 404,
    OutputNotFoundError: 404,
    IllegalCommandError: 409,
    TriggerTooLargeError: 413,
    IdempotencyConflictError: 422,
    TooManyLiveRunsError: 429,
    RateLimitError: 429,
    NewerLogError: 503,
    JetStreamError: 503,
    UnavailableError: 503,
}
_RETRY_AFTER_S: Final = 1
_REMEDY: Final = "repeat the request, with the same Idempotency-Key if it is a POST"
_LOG_INTERVAL_S: Final = 1.0

_log = structlog.get_logger(__name__)
_outage_log = LogThrottle(_LOG_INTERVAL_S)


def pointer(*path: str | int) -> str:
    """Return the JSON Pointer (RFC 6901) to a place."""
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in path)


class ProblemDocument(msgspec.Struct, omit_defaults=True):
    """An error.

    Attributes:
        title: The phrase of the HTTP status.
        detail: What is wrong, as a sentence.
        error: The title, of a 401 only; existing front ends read it.
        errors: The wrong places in the request.
    """

    title: str
    status: int
    detail: str
    errors: Sequence[Problem] = ()
    error: str = ""


class RefusedError(ServiceError):
    """A request is refused with a problem.

    Attributes:
        status: The HTTP status of the response.
        errors: The wrong places in the request.
        headers: Further headers of the response.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        errors: Sequence[Problem] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.errors = errors
        self.headers = headers


class LimitError(RefusedError):
    """A request asks for more than one request may have."""


def unprocessable(place: str, detail: str) -> RefusedError:
    """Return the error for a body that is wrong in one place.

    Args:
        place: The JSON Pointer to the place.
        detail: The sentence that says what is wrong.
    """
    return RefusedError(422, detail, [Problem(place, detail)])


def problem(
    status: int,
    detail: str,
    errors: Sequence[Problem] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    # A detail may repeat input, and a client may have put a token there by mistake.
    errors = [Problem(error.pointer, redact_credentials(error.detail)) for error in errors]
    title = HTTPStatus(status).phrase
    body = ProblemDocument(
        title, status, redact_credentials(detail), errors, title if status == 401 else ""
    )
    return Response(
        msgspec.json.encode(body), status, {**NO_STORE, **(headers or {})}, CONTENT_TYPE
    )


async def answer_refusal(_request: Request, error: RefusedError) -> Response:
    return problem(error.status, str(error), error.errors, error.headers)


async def answer_invalid_input(_request: Request, error: InvalidInputError) -> Response:
    return problem(422, error.summary, error.problems)


async def answer_error(_request: Request, error: Exception) -> Response:
    status = next(status for kind, status in _STATUS.items() if isinstance(error, kind))
    seconds = getattr(error, "retry_after", _RETRY_AFTER_S)
    headers = {"retry-after": str(seconds)} if status in {429, 503} else None
    return problem(status, _detail(error), headers=headers)


def _detail(error: Exception) -> str:
    """Return what is wrong and what the caller can do; the names of NATS are for operators."""
    if not isinstance(error, UnavailableError | JetStreamError) or isinstance(
        error, StoreFullError
    ):
        return str(error)
    if _outage_log.is_due():
        _log.warning("NATS did not serve a request", error=str(error))
    if isinstance(error, StoreFailedError):
        return f"NATS cannot store messages now; {_REMEDY}"
    if isinstance(error, JetStreamError):
        return f"NATS refused the request with error {error.code}; see the log of the API"
    return f"NATS did not answer in time; {_REMEDY}"


async def answer_routing(request: Request, error: HTTPException) -> Response:
    detail = {
        404: f"there is no resource at {request.url.path}",
        405: f"{request.url.path} does not support {request.method}",
    }.get(error.status_code, error.detail)
    headers = {"allow": _methods(request)} if error.status_code == 405 else error.headers
    return problem(error.status_code, detail, headers=headers)


def _methods(request: Request) -> str:
    # Several routes may share a path, each with its own method. A name such as `cancel` may also
    # match the path of an id.
    routes: list[Route] = [
        route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE
    ]
    named = min(routes, key=lambda route: len(route.param_convertors)).path
    methods = {method for route in routes if route.path == named for method in route.methods or ()}
    return ", ".join(sorted(methods))


EXCEPTION_HANDLERS: Final[Mapping[Any, Any]] = {
    RefusedError: answer_refusal,
    InvalidInputError: answer_invalid_input,
    HTTPException: answer_routing,
    **dict.fromkeys(_STATUS, answer_error),
}
