"""Requests that pages of other sites have a browser send, to an API that asks nobody for a token.

A browser lets any page send a form, or a POST whose body has no type, to any address, its own
machine's among them; that the page cannot read the answer does not undo what was asked (CSRF). With
other content types the browser asks first, and `web.cors` answers. And a page may have its
own name point to this machine (DNS rebinding): for the browser that is the page's own site, and
only the name in Host tells.
"""

import ipaddress
from collections.abc import Collection, Mapping
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from tailrace_api.middleware.cors import allowed_origins
from tailrace_api.web.problems import problem
from tailrace_shared.settings import ApiSettings

_ANY: Final = "*"
_CHANGES_NOTHING: Final = frozenset({"GET", "HEAD", "OPTIONS"})
# What a page may send without being asked: https://fetch.spec.whatwg.org/#cors-safelisted-request-header
_UNASKED: Final = frozenset(
    {"", "application/x-www-form-urlencoded", "multipart/form-data", "text/plain"}
)
_OWN_SITE: Final = frozenset({"same-origin", "same-site", "none"})


class CsrfProtection:
    """ASGI middleware that refuses what pages of other sites send unasked.

    Args:
        app: what is behind it.
        settings: those of the API.
    """

    def __init__(self, app: ASGIApp, settings: ApiSettings) -> None:
        self._app = app
        self._origins = frozenset(allowed_origins(settings))
        # Where tokens are asked for, or something in front does that, any name will do.
        self._is_open = settings.auth == "none" and not settings.allow_open_bind
        names = map(str.strip, settings.allowed_hosts.lower().split(","))
        self._names = frozenset([settings.host.lower(), *filter(None, names)])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        await (self._app if refusal is None else refusal)(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = host_of(headers.get("host", ""))
        if self._is_open and not is_own(host, self._names):
            return problem(
                421,
                f"this API does not answer under the name {host[:80]!r} while TAILRACE_AUTH=none; "
                "use 127.0.0.1, or add the name to TAILRACE_ALLOWED_HOSTS",
            )
        if is_foreign(scope["method"], headers, self._origins):
            return problem(
                403,
                "a page of another site may not send this; send Content-Type: application/json, "
                "and have its origin listed in TAILRACE_CORS_ORIGINS",
                headers={"connection": "close"},
            )
        return None


def host_of(authority: str) -> str:
    """Return the host of a Host header, without its port."""
    try:
        return (urlsplit(f"//{authority}").hostname or "").removesuffix(".")
    except ValueError:
        return authority


def is_own(host: str, names: Collection[str]) -> bool:
    """Tell whether a host is a name that a page of another site cannot have.

    Args:
        host: what a client calls this API; empty if it does not say.
        names: what it may be called beside the names of loopback addresses; ``*`` is any.
    """
    if _ANY in names or host in names or _is_loopback(host):
        return True
    # No site has a name without a dot, but for some of a few countries (RFC 7085).
    return "." not in host and ":" not in host


def is_foreign(method: str, headers: Mapping[str, str], origins: Collection[str]) -> bool:
    """Tell whether a page of another site has a browser send this without having been asked.

    Args:
        method: of the request.
        headers: of the request.
        origins: whose pages may.
    """
    content_type = headers.get("content-type", "").split(";")[0].strip().lower()
    if method in _CHANGES_NOTHING or content_type not in _UNASKED:
        return False
    origin = headers.get("origin")
    if _ANY in origins or origin in origins:
        return False
    # Browsers tell it to whom they trust: https, and addresses of their own machine.
    if site := headers.get("sec-fetch-site"):
        return site not in _OWN_SITE
    return origin is not None and not _is_same(origin, host_of(headers.get("host", "")))


def _is_same(origin: str, host: str) -> bool:
    try:
        page = urlsplit(origin).hostname or ""
    except ValueError:
        return False
    return page == host or (_is_loopback(page) and _is_loopback(host))


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
