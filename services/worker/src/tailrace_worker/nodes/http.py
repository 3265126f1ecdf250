"""The node type ``http``: send one HTTP request."""

import asyncio
import encodings.idna  # noqa: F401 - as the ones below
import functools
import re
import zlib
from collections.abc import Callable, Iterable
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Final, NamedTuple

# These are otherwise imported at the first request, for tens of milliseconds on the event loop.
import anyio._backends._asyncio  # noqa: F401
import httpcore
import httpx

from tailrace_shared.duration import Duration
from tailrace_shared.json_encoding import json_text
from tailrace_worker.nodes.exchange.addresses import (
    AddressRefusedError,
    GuardedBackend,
    Network,
    parse_networks,
)
from tailrace_worker.nodes.exchange.connection_shares import ConnectionShares
from tailrace_worker.nodes.exchange.request import (
    content_of,
    headers_of,
    method_of,
    query_of,
    statuses_of,
    url_of,
)
from tailrace_worker.nodes.exchange.response import (
    MAX_RECEIVED_BYTES,
    MAX_RESPONSE_BYTES,
    check_encoding,
    decode_body,
    too_large,
)
from tailrace_worker.nodes.node import NodeContext, NodeFailedError, node

_TIMEOUT: Final = httpx.Timeout(30.0, connect=10.0)
_KEYED_METHODS: Final = {"POST", "PUT", "PATCH", "DELETE"}
_FORWARDED_HEADERS: Final = {
    *("host", "accept", "accept-encoding", "connection", "user-agent"),
    *("content-type", "content-length", "transfer-encoding"),
}
# A body of this size is decoded at once; a larger one in a thread.
_SMALL_BYTES: Final = 8 * 1024
# 4xx statuses after which a later attempt may succeed.
_RETRYABLE_STATUSES: Final = {408, 425, 429}


class HttpLimits(NamedTuple):
    """The limits of requests.

    Attributes:
        allow: networks that may be reached besides public addresses, in CIDR form, separated by
            commas.
        connections: the most connections of this process.
        timeout_s: seconds within which a response must be complete.
    """

    allow: str = ""
    connections: int = 200
    timeout_s: float = 300.0


class _GuardedTransport(httpx.AsyncHTTPTransport):
    def __init__(self, allowed: Iterable[Network], connections: int) -> None:
        ssl_context = httpx.create_ssl_context()
        super().__init__(verify=ssl_context)
        # httpx does not pass a network backend to its pool, so the pool is replaced.
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=ssl_context,
            max_connections=connections,
            max_keepalive_connections=20,
            network_backend=GuardedBackend(allowed),
        )


class _Client(httpx.AsyncClient):
    """An HTTP client that drops a definition's headers at a redirect to another origin.

    Any header may be a credential; httpx itself drops only ``authorization`` and ``cookie``.
    """

    def _redirect_headers(
        self, request: httpx.Request, url: httpx.URL, method: str
    ) -> httpx.Headers:
        headers = super()._redirect_headers(request, url, method)
        if _origin(url) != _origin(request.url):
            for name in set(headers) - _FORWARDED_HEADERS:
                del headers[name]
        return headers


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def make_http_node(limits: HttpLimits) -> Callable[..., Any]:
    """Return the ``http`` node function.

    The client ignores the proxies of the environment, which would bypass the address check.

    Raises:
        ValueError: an allowed network is invalid.
    """
    shares = ConnectionShares(limits.connections)
    client = _Client(
        headers={"accept-encoding": "gzip"},
        # All tenants share the client, so it must not store cookies.
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        transport=_GuardedTransport(parse_networks(limits.allow), limits.connections),
        timeout=_TIMEOUT,
        follow_redirects=True,
        max_redirects=5,
        trust_env=False,
    )

    @node("http")
    async def http(  # noqa: PLR0913, PLR0917 - the parameters are the keys of `with`
        ctx: NodeContext,
        url: str,
        method: str = "GET",
        headers: dict[str, Any] | None = None,
        query: dict[str, Any] | None = None,
        json: Any = None,
        body: Any = None,
        expect_status: int | list[int] | None = None,
    ) -> dict[str, Any]:
        """Send one request; return its status, headers and body, which is parsed if it is JSON."""
        # All parameters are checked before the request has an effect.
        method, url, sent = method_of(method), url_of(url), headers_of(headers)
        parameters, expected = query_of(query), statuses_of(expect_status)
        content = content_of(json, body)
        if json is not None:
            sent.setdefault("content-type", "application/json")
        if method in _KEYED_METHODS:
            sent.setdefault("idempotency-key", ctx.idempotency_key)
        try:
            async with (
                shares.hold(ctx.tenant),
                asyncio.timeout(limits.timeout_s),
                client.stream(
                    method,
                    # httpx's `params` would replace the query of the URL.
                    httpx.URL(url).copy_merge_params(parameters) if parameters else url,
                    headers=sent,
                    content=content,
                ) as response,
            ):
                output = await _read(response)
        except TimeoutError:
            raise NodeFailedError(
                f"{method} {_url_for_errors(url)}: no complete response within "
                f"{Duration(limits.timeout_s)} (TAILRACE_HTTP_TIMEOUT)"
            ) from None
        except (httpx.HTTPError, httpx.InvalidURL, zlib.error) as error:
            refused = isinstance(error.__cause__, AddressRefusedError)
            raise NodeFailedError(
                f"{method} {_url_for_errors(url)}: {str(error) or type(error).__name__}",
                retryable=not refused,
            ) from error
        _check_status(f"{method} {_url_for_errors(url)}", output, expected)
        return output

    return http


async def _read(response: httpx.Response) -> dict[str, Any]:
    headers = dict(response.headers)
    is_compressed = check_encoding(headers.get("content-encoding", "identity").strip().lower())
    received = await _receive(response, MAX_RECEIVED_BYTES if is_compressed else MAX_RESPONSE_BYTES)
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    decode = functools.partial(
        decode_body,
        received,
        media_type,
        response.charset_encoding,
        is_compressed=is_compressed,
    )
    is_small = len(received) <= _SMALL_BYTES and not is_compressed
    body = decode() if is_small else await asyncio.to_thread(decode)
    return {"status": response.status_code, "headers": headers, "body": body}


async def _receive(response: httpx.Response, limit: int) -> bytes:
    received = bytearray()
    # Not decompressed by httpx, which inflates chunks whole: 64 KiB may become 64 MiB (CWE-409).
    async for chunk in response.aiter_raw():
        received += chunk
        if len(received) > limit:
            raise too_large()
    return bytes(received)


def _url_for_errors(url: str) -> str:
    """Return a URL for an error message, without credentials and query, which may be secrets."""
    return re.sub(r"//[^/]*@", "//", url.partition("?")[0])


def _check_status(request: str, output: dict[str, Any], expected: frozenset[int]) -> None:
    status = output["status"]
    if (status in expected) if expected else (status < 400):
        return
    raise NodeFailedError(
        f"{request}: unexpected status {status}",
        retryable=status >= 500 or status in _RETRYABLE_STATUSES,
        detail=json_text(output["body"]),
    )
