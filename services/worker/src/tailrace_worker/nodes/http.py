"""The node type ``http``: send one HTTP request.

A definition is untrusted input, and the worker runs inside a private network. So by default a
request reaches public addresses only (SSRF, CWE-918). The check applies to the very address of the
connection, after resolution, so neither a redirect nor DNS rebinding can bypass it.
"""

import asyncio
import functools
import ipaddress
import re
import socket
import zlib
from collections.abc import Callable, Iterable
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Final

import httpcore
import httpx

from tailrace_shared.json_encoding import json_text
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

# IPv4-compatible (RFC 4291), SIIT (RFC 2765) and NAT64 (RFC 6052, 8215) addresses embed an IPv4
# address in their last four bytes.
_IPV4_EMBEDDING: Final = tuple(
    ipaddress.IPv6Network(network)
    for network in ("::/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48")
)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class AddressRefusedError(httpcore.ConnectError):
    """The request would have reached an address that is neither public nor allowed."""


class GuardedBackend(httpcore.AnyIOBackend):
    """Connects only to addresses that are public or allowed."""

    def __init__(self, allowed: Iterable[Network]) -> None:
        self._allowed = tuple(allowed)

    async def connect_tcp(
        self, host: str, port: int, *args: Any, **options: Any
    ) -> httpcore.AsyncNetworkStream:
        """Resolve ``host``, check all its addresses, and connect to one of them."""
        addresses = await _resolve(host, port)
        for address in addresses:
            if not self._is_allowed(address):
                raise AddressRefusedError(
                    f"{host} is {address}, which is not a public address: "
                    "allow its network with TAILRACE_HTTP_ALLOW"
                )
        failure: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in addresses:
            try:
                return await super().connect_tcp(address, port, *args, **options)
            except httpcore.ConnectError as error:
                failure = error
        raise failure

    async def connect_unix_socket(
        self, path: str, *_args: Any, **_options: Any
    ) -> httpcore.AsyncNetworkStream:
        """Refuse: a definition must not reach a socket of this machine."""
        raise AddressRefusedError(f"{path} is a local socket")

    def _is_allowed(self, address: str) -> bool:
        parsed = ipaddress.ip_address(address.partition("%")[0])
        reached = _effective_address(parsed)
        if any(parsed in network or reached in network for network in self._allowed):
            return True
        is_site_local = getattr(reached, "is_site_local", False)
        return reached.is_global and not reached.is_multicast and not is_site_local


def _effective_address(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return the address that packets reach: for example, ::ffff:127.0.0.1 is loopback."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if any(address in network for network in _IPV4_EMBEDDING):
        return ipaddress.IPv4Address(address.packed[-4:])
    return address.ipv4_mapped or address.sixtofour or address


async def _resolve(host: str, port: int) -> list[str]:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise httpcore.ConnectError(f"cannot resolve {host}: {error}") from error
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def parse_networks(text: str) -> list[Network]:
    """Parse networks in CIDR form, separated by commas.

    Raises:
        ValueError: one of them is not a network.
    """
    return [ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip()]


class _GuardedTransport(httpx.AsyncHTTPTransport):
    def __init__(self, allowed: Iterable[Network]) -> None:
        ssl_context = httpx.create_ssl_context()
        super().__init__(verify=ssl_context)
        # httpx does not pass a network backend to its pool, so the pool is replaced.
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=ssl_context,
            max_connections=100,
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


def make_http_node(allowed: Iterable[Network]) -> Callable[..., Any]:
    """Return the ``http`` node function.

    The client ignores the proxies of the environment, which would bypass the address check.
    """
    client = _Client(
        headers={"accept-encoding": "gzip"},
        # All tenants share the client, so it must not store cookies.
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        transport=_GuardedTransport(allowed),
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
            async with client.stream(
                method,
                # httpx's `params` would replace the query of the URL.
                httpx.URL(url).copy_merge_params(parameters) if parameters else url,
                headers=sent,
                content=content,
            ) as response:
                output = await _read(response)
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
