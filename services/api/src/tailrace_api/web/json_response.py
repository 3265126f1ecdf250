"""Responses with a JSON body, encoded by msgspec."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from starlette.responses import Response

NO_STORE: Final[Mapping[str, str]] = {"cache-control": "no-store"}


def json_response(
    body: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Return ``body``, a struct or plain values, as a JSON response that no cache may store."""
    return Response(
        msgspec.json.encode(body), status, {**NO_STORE, **(headers or {})}, "application/json"
    )
