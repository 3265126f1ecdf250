"""Query parameters that several routes take."""

from typing import Annotated, Final

from msgspec import Meta
from starlette.requests import Request

from tailrace_api.web.operation import Parameter
from tailrace_api.web.problems import RefusedError
from tailrace_shared.ids import ID_PATTERN, is_valid_id

_DEFAULT_PAGE: Final = 50
_LARGEST_PAGE: Final = 200

_SOME: Final = r"[A-Za-z0-9_-]{1,64}"
_LIST: Final = r"(,[A-Za-z0-9_-]{0,64})*$"
IDS: Final = Annotated[str, Meta(pattern=rf"^({_SOME})?{_LIST}")]
"""What a parameter that lists ids by commas is declared as."""
SOME_IDS: Final = Annotated[str, Meta(pattern=rf"^,*{_SOME}{_LIST}")]
"""The same, where there must be one."""

LIMIT: Final = Parameter(
    "limit",
    Annotated[int, Meta(ge=1, le=_LARGEST_PAGE)],
    f"How many items the page shall have at the most; {_DEFAULT_PAGE} if it is left out.",
)
CURSOR: Final = Parameter(
    "cursor",
    Annotated[str, Meta(pattern=ID_PATTERN)],
    "The `cursor` of the page before; the first page has none.",
)


def query_value(request: Request, name: str) -> str | None:
    """Return what a parameter says; None if it is left out or, as forms send it, empty."""
    return request.query_params.get(name) or None


def limit_of(request: Request) -> int:
    """Return how many items a page shall have at the most.

    Raises:
        RefusedError: it is no number, or not one that may be asked for.
    """
    text = query_value(request, "limit")
    if text is None:
        return _DEFAULT_PAGE
    return checked_number("limit", text, least=1, most=_LARGEST_PAGE)


def cursor_of(request: Request) -> str | None:
    """Return the cursor, an id, at which the page before ended.

    Raises:
        RefusedError: it is no id.
    """
    text = query_value(request, "cursor")
    if text is not None and not is_valid_id(text):
        raise RefusedError(400, f"cursor: {text[:80]!r} is not a cursor of this list")
    return text


def ids_of(request: Request, name: str, most: int) -> list[str]:
    """Return the ids that a parameter lists by commas, each once, in the order given.

    Raises:
        RefusedError: one of them is no id, or there are more than ``most``.
    """
    text = request.query_params.get(name, "")
    # Counted before anything is done with them.
    if (count := text.count(",") + 1) > most:
        raise RefusedError(
            400, f"{name}: {count} ids are more than {most}; ask for the rest in another request"
        )
    ids = [part for part in text.split(",") if part]
    for each in ids:
        if not is_valid_id(each):
            raise RefusedError(
                400,
                f"{name}: {each[:80]!r} is not an id: use 1 to 64 letters, digits, '_' or '-', "
                "and separate ids by commas",
            )
    return list(dict.fromkeys(ids))


def checked_number(name: str, text: str, *, least: int, most: int) -> int:
    """Return a number that was sent as text.

    Raises:
        RefusedError: it is no number from ``least`` to ``most``.
    """
    # Python would read numbers of other scripts, and of any length, too.
    if not (text.isascii() and text.isdecimal() and least <= int(text[:20]) <= most):
        raise RefusedError(400, f"{name}: {text[:40]!r} is not a number from {least} to {most}")
    return int(text)
