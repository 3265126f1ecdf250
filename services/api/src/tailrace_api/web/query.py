"""Query parameters shared by several routes; ``RefusedError`` (400) for an invalid one."""

from datetime import datetime
from typing import Annotated, Final

from msgspec import Meta
from starlette.requests import Request

from tailrace_api.web.operation import Parameter
from tailrace_api.web.problems import LimitError, RefusedError
from tailrace_shared.ids import ID_PATTERN, is_valid_id

OPTIONAL_WHITESPACE: Final = " \t"
"""The whitespace around the value of a header (RFC 9110, 5.6.3), ignored in parameters, too."""

_DEFAULT_LIMIT: Final = 50
_MAX_LIMIT: Final = 200

_ID: Final = r"[A-Za-z0-9_-]{1,64}"
_MORE_IDS: Final = r"(,[A-Za-z0-9_-]{0,64})*$"
IDS: Final = Annotated[str, Meta(pattern=rf"^({_ID})?{_MORE_IDS}")]
"""The type of a parameter that lists ids, separated by commas."""
SOME_IDS: Final = Annotated[str, Meta(pattern=rf"^,*{_ID}{_MORE_IDS}")]
"""The type of a parameter that lists at least one id."""

LIMIT: Final = Parameter(
    "limit",
    Annotated[int, Meta(ge=1, le=_MAX_LIMIT)],
    f"The maximum number of items on the page; {_DEFAULT_LIMIT} by default.",
)
CURSOR: Final = Parameter(
    "cursor",
    Annotated[str, Meta(pattern=ID_PATTERN)],
    "The `cursor` of the previous page; absent for the first page.",
)


def query_value(request: Request, name: str) -> str | None:
    """Return the value of a parameter; None if it is absent or, as forms send it, empty."""
    return request.query_params.get(name, "").strip(OPTIONAL_WHITESPACE) or None


def time_of(request: Request, name: str) -> float | None:
    """Return the time (RFC 3339) in a parameter, in seconds since the epoch."""
    text = query_value(request, name)
    if text is None:
        return None
    # A plus sign that is not escaped is a space.
    if (moment := moment_of(text.replace(" ", "+"))) is not None:
        return moment
    raise RefusedError(
        400, f"{name}: {text[:40]!r} is not an RFC 3339 time such as 2026-01-15T10:30:00Z"
    )


def moment_of(text: str) -> float | None:
    """Return an RFC 3339 time in seconds since the epoch, or None if it is not one."""
    try:
        # Python knows no leap seconds.
        stamp = datetime.fromisoformat(text.upper().replace(":60", ":59"))
        return None if stamp.tzinfo is None else stamp.timestamp()
    except (ValueError, OverflowError):
        return None


def limit_of(request: Request) -> int:
    """Return the maximum number of items on the requested page."""
    text = query_value(request, "limit")
    if text is None:
        return _DEFAULT_LIMIT
    return checked_number("limit", text, minimum=1, maximum=_MAX_LIMIT)


def cursor_of(request: Request) -> str | None:
    """Return the cursor of the previous page, an id; None for the first page."""
    text = query_value(request, "cursor")
    if text is not None and not is_valid_id(text):
        raise RefusedError(400, f"cursor: {text[:80]!r} is not a cursor of this list")
    return text


def ids_of(request: Request, name: str, limit: int) -> list[str]:
    """Return the ids in a comma-separated parameter, deduplicated, in the order sent."""
    text = request.query_params.get(name, "")
    # Counted before the list is split, to limit the work.
    if (count := text.count(",") + 1) > limit:
        raise LimitError(
            400, f"{name}: {count} ids exceed the limit of {limit}; send several requests"
        )
    ids = [id_ for part in text.split(",") if (id_ := part.strip(OPTIONAL_WHITESPACE))]
    for each in ids:
        if not is_valid_id(each):
            raise RefusedError(
                400,
                f"{name}: {each[:80]!r} is not an id: use 1 to 64 letters, digits, '_' or '-', "
                "and separate ids by commas",
            )
    return list(dict.fromkeys(ids))


def checked_number(name: str, text: str, *, minimum: int, maximum: int) -> int:
    """Parse a number."""
    # Python would also accept digits of other scripts, and any length.
    if not (text.isascii() and text.isdecimal() and minimum <= int(text[:20]) <= maximum):
        raise RefusedError(
            400, f"{name}: {text[:40]!r} is not a number from {minimum} to {maximum}"
        )
    return int(text)
