"""The header Idempotency-Key: what may be one."""

import re

from starlette.requests import Request

from tailrace_api.problems import RefusedError

_KEY = re.compile(r"[\x20-\x7e]{1,255}")


def idempotency_key_of(request: Request) -> str | None:
    """Return a request's idempotency key, if it has one.

    Raises:
        RefusedError: it is empty, too long or has unprintable characters.
    """
    key = request.headers.get("idempotency-key")
    if key is not None and not _KEY.fullmatch(key):
        raise RefusedError(400, "Idempotency-Key: send 1 to 255 printable ASCII characters")
    return key
