"""Protection of an API without authentication against CSRF and DNS rebinding.

A browser lets any page send a form, or a POST without a content type, to any address, loopback
included. The page cannot read the response, but the request takes effect (CSRF). For other content
types the browser sends a preflight first, which ``middleware.cors`` answers. A page can also let
its own host name resolve to this machine (DNS rebinding): the browser then sees one site, and only
the Host header reveals it.
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

_WILDCARD: Final = "*"
_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
# Content types that need no preflight: https://fetch.spec.whatwg.org/#cors-safelisted-request-header
_SAFELISTED_TYPES: Final = frozenset(
    {"", "application/x-www-form-urlencoded", "multipart/form-data", "text/plain"}
)
_SAME_SITE: Final = frozenset({"same-origin", "same-site", "none"})


class CsrfProtection:
    """ASGI middleware that refuses cross-site requests without a preflight."""

    def __init__(self, app: ASGIApp, settings: ApiSettings) -> None:
        self._app = app
        self._origins = frozenset(allowed_origins(settings))
        # Host names matter only without authentication, here or in a proxy in front.
        self._checks_host = settings.auth == "none" and not settings.allow_open_bind
        names = map(str.strip, settings.allowed_hosts.lower().split(","))
        self._host_names = frozenset([settings.host.lower(), *filter(None, names)])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        await (self._app if refusal is None else refusal)(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = host_of(headers.get("host", ""))
        if self._checks_host and not is_trusted_host(host, self._host_names):
            return problem(
                421,
                f"the host name {host[:80]!r} is not allowed while TAILRACE_AUTH=none; use "
                "127.0.0.1, or add the name to TAILRACE_ALLOWED_HOSTS",
            )
        if is_cross_site(scope["method"], headers, self._origins):
            return problem(
                403,
                "a page of another site may not send this request; send Content-Type: "
                "application/json, and list the page's origin in TAILRACE_CORS_ORIGINS",
                headers={"connection": "close"},
            )
        return None


def host_of(authority: str) -> str:
    """Return the host of a Host header, without its port."""
    try:
        return (urlsplit(f"//{authority}").hostname or "").removesuffix(".")
    except ValueError:
        return authority


def is_trusted_host(host: str, names: Collection[str]) -> bool:
    """Return whether a host name cannot belong to another site's page.

    Args:
        names: The allowed names beside loopback names; ``*`` allows all.
    """
    # A name without a dot may belong to a page, too: the local network can resolve any of them.
    # No browser leaves the name out; probes of HTTP/1.0 do.
    return _WILDCARD in names or host in names or not host or _is_loopback(host)


def is_cross_site(method: str, headers: Mapping[str, str], origins: Collection[str]) -> bool:
    """Return whether a page of another site sent a request without a preflight."""
    content_type = headers.get("content-type", "").split(";")[0].strip().lower()
    if method in _SAFE_METHODS or content_type not in _SAFELISTED_TYPES:
        return False
    origin = headers.get("origin")
    if _WILDCARD in origins or origin in origins:
        return False
    # Browsers send this header only over https and to loopback addresses.
    if site := headers.get("sec-fetch-site"):
        return site not in _SAME_SITE
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
