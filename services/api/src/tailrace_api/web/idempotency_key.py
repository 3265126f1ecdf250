"""The header Idempotency-Key: what may be one."""

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
    "A request that repeats the key of one within 24 hours is answered like that one and does "
    "nothing.",
    place="header",
)


def idempotency_key_of(request: Request) -> str | None:
    """Return a request's idempotency key, if it has one.

    Raises:
        RefusedError: it is empty, too long or has unprintable characters.
    """
    key = request.headers.get("idempotency-key")
    if key is not None and not _KEY.fullmatch(key):
        raise RefusedError(400, "Idempotency-Key: send 1 to 255 printable ASCII characters")
    return key
