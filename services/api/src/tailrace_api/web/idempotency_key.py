"""The request header Idempotency-Key."""

import re
from typing import Annotated, Final

from msgspec import Meta
from starlette.requests import Request

from tailrace_api.web.operation import Parameter
from tailrace_api.web.problems import RefusedError

_KEY = re.compile(r"[\x20-\x7e]{1,255}")

IDEMPOTENCY_KEY: Final = Parameter(
    "Idempotency-Key",
    Annotated[str, Meta(pattern=r"^[\x20-\x7e]{1,255}$")],
    "Deduplicates requests: one that repeats a key within 24 hours gets the response of the first "
    "and has no effect.",
    place="header",
)


def idempotency_key_of(request: Request) -> str | None:
    """Return the idempotency key of a request; None if it has none.

    Raises:
        RefusedError: The key is empty, too long or has unprintable characters (400).
    """
    key = request.headers.get("idempotency-key")
    if key is not None and not _KEY.fullmatch(key):
        raise RefusedError(400, "Idempotency-Key: send 1 to 255 printable ASCII characters")
    return key
