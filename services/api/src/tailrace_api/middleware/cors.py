"""Cross-origin resource sharing (CORS): the origins whose pages may call the API."""

from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tailrace_shared.errors import StartupError
from tailrace_shared.settings import ApiSettings

METHODS: Final = ("GET", "POST", "PUT", "DELETE")
REQUEST_HEADERS: Final = (
    *("Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID", "X-Organization-ID"),
    # Sent by stream clients other than EventSource.
    "Cache-Control",
)
ANSWER_HEADERS: Final = ("ETag", "Location", "Retry-After", "WWW-Authenticate")
_MAX_AGE_S: Final = 600
_RESPONSE_HEADERS: Final = "response_headers"
_VARIES: Final = (b"vary", b"Origin")


class Cors(CORSMiddleware):
    """Starlette's CORS middleware, extended to streams that bypass ASGI ``send``."""

    def __init__(self, app: ASGIApp, settings: ApiSettings) -> None:
        super().__init__(
            app,
            allow_origins=allowed_origins(settings),
            allow_methods=METHODS,
            allow_headers=REQUEST_HEADERS,
            allow_credentials=settings.cors_credentials,
            expose_headers=ANSWER_HEADERS,
            max_age=_MAX_AGE_S,
        )

    async def simple_response(
        self, scope: Scope, receive: Receive, send: Send, request_headers: Headers
    ) -> None:
        head: Message = {"type": "http.response.start", "status": 200, "headers": []}
        await self.send(head, _discard, request_headers)
        added: list[tuple[bytes, bytes]] = head["headers"]
        if not (self.allow_all_origins or _VARIES in added):
            # A cache must not serve the response of one origin to another.
            added.append(_VARIES)
        scope.setdefault("state", {})[_RESPONSE_HEADERS] = added

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                # A stream has added them already.
                others = [pair for pair in message.get("headers", []) if pair not in added]
                message["headers"] = [*others, *added]
            await send(message)

        await self.app(scope, receive, send_with_headers)


def allowed_origins(settings: ApiSettings) -> tuple[str, ...]:
    """Return the configured origins; empty if no other origin may call the API.

    Raises:
        StartupError: One of them is not an origin, or ``*`` is combined with credentials.
    """
    origins = tuple(filter(None, map(str.strip, settings.cors_origins.split(","))))
    if "*" in origins and settings.cors_credentials:
        raise StartupError(
            "TAILRACE_CORS_ORIGINS=* cannot be combined with TAILRACE_CORS_CREDENTIALS=true: list "
            "the origins"
        )
    for origin in origins:
        if origin != "*" and not _is_origin(origin):
            raise StartupError(
                f"TAILRACE_CORS_ORIGINS: {origin!r} is not an origin; write for example "
                "https://app.example.com, without a path"
            )
    return origins


def _is_origin(text: str) -> bool:
    try:
        parts = urlsplit(text)
        host = parts.hostname
    except ValueError:
        return False
    return (
        parts.scheme in {"http", "https"}
        and bool(host)
        and text == f"{parts.scheme}://{parts.netloc}"
    )


async def _discard(_message: Message) -> None:
    """Drop a message that was only built for its headers."""
