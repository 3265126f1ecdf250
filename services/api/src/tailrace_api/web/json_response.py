"""Responses with a JSON body, encoded by msgspec."""

from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.responses import Response


def json_response(
    body: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Return ``body``, a struct or plain values, as a JSON response."""
    return Response(msgspec.json.encode(body), status, headers, "application/json")
