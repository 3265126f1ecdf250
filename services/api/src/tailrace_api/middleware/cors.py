"""Cross-origin requests (CORS): which other pages may call the API from a browser."""

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
    # Sent by clients of streams that are no EventSource.
    "Cache-Control",
)
ANSWER_HEADERS: Final = ("ETag", "Location", "Retry-After", "WWW-Authenticate")
_MAX_AGE: Final = 600
_RESPONSE_HEADERS: Final = "response_headers"
_VARIES: Final = (b"vary", b"Origin")


class Cors(CORSMiddleware):
    """Starlette's middleware, which also tells the headers to streams that write for themselves."""

    def __init__(self, app: ASGIApp, settings: ApiSettings) -> None:
        super().__init__(
            app,
            allow_origins=allowed_origins(settings),
            allow_methods=METHODS,
            allow_headers=REQUEST_HEADERS,
            allow_credentials=settings.cors_credentials,
            expose_headers=ANSWER_HEADERS,
            max_age=_MAX_AGE,
        )

    async def simple_response(
        self, scope: Scope, receive: Receive, send: Send, request_headers: Headers
    ) -> None:
        """Serve a request that is no preflight."""
        head: Message = {"type": "http.response.start", "status": 200, "headers": []}
        await self.send(head, _nowhere, request_headers)
        ours: list[tuple[bytes, bytes]] = head["headers"]
        if not (self.allow_all_origins or _VARIES in ours):
            # A cache must not hand what a stranger's page was told to one that may read it.
            ours.append(_VARIES)
        scope.setdefault("state", {})[_RESPONSE_HEADERS] = ours

        async def send_ours(message: Message) -> None:
            if message["type"] == "http.response.start":
                # A stream has added them already.
                theirs = [pair for pair in message.get("headers", []) if pair not in ours]
                message["headers"] = [*theirs, *ours]
            await send(message)

        await self.app(scope, receive, send_ours)


def allowed_origins(settings: ApiSettings) -> tuple[str, ...]:
    """Return the origins that may call the API; none: only pages of its own.

    Raises:
        StartupError: one of them is no origin, or all are allowed with credentials.
    """
    origins = tuple(filter(None, map(str.strip, settings.cors_origins.split(","))))
    if "*" in origins and settings.cors_credentials:
        raise StartupError(
            "TAILRACE_CORS_ORIGINS=* does not go with TAILRACE_CORS_CREDENTIALS=true: name the "
            "origins"
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


async def _nowhere(_message: Message) -> None:
    """Take a message that is only looked at."""
