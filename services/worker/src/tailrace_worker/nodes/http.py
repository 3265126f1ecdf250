"""``http``: sends one request.

A definition is somebody's input, and its worker stands inside a network: so by default a request
reaches public addresses only (CWE-918). The check is made on the very address that is connected
to, after resolution, so neither a redirect nor a name that resolves anew can get around it.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Iterable
from typing import Any, Final

import httpcore
import httpx
import msgspec

from tailrace_worker.nodes.node import NodeContext, NodeFailedError, node

MAX_RESPONSE_BYTES: Final = 192 * 1024
_TIMEOUT: Final = httpx.Timeout(30.0, connect=10.0)
_KEYED_METHODS: Final = {"POST", "PUT", "PATCH", "DELETE"}
# Statuses of the 400s that a later attempt may well not meet again.
_PASSING: Final = {408, 425, 429}

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class AddressRefusedError(httpcore.ConnectError):
    """The request would have reached an address that is not public and not allowed."""


class GuardedBackend(httpcore.AnyIOBackend):
    """Connects only to addresses that are public or allowed."""

    def __init__(self, allowed: Iterable[Network]) -> None:
        self._allowed = tuple(allowed)

    async def connect_tcp(
        self, host: str, port: int, *args: Any, **options: Any
    ) -> httpcore.AsyncNetworkStream:
        """Resolve ``host``, check every address, and connect to one that was checked."""
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
        """Refuse: no URL of a definition may name a socket of this machine."""
        raise AddressRefusedError(f"{path} is a local socket")

    def _is_allowed(self, address: str) -> bool:
        parsed = ipaddress.ip_address(address.partition("%")[0])
        # ::ffff:127.0.0.1 is loopback too.
        parsed = getattr(parsed, "ipv4_mapped", None) or parsed
        if any(parsed in network for network in self._allowed):
            return True
        return parsed.is_global and not parsed.is_multicast


async def _resolve(host: str, port: int) -> list[str]:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise httpcore.ConnectError(f"cannot resolve {host}: {error}") from error
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def parse_networks(text: str) -> list[Network]:
    """Read networks in CIDR form, separated by commas.

    Raises:
        ValueError: one of them is not a network.
    """
    return [ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip()]


class _GuardedTransport(httpx.AsyncHTTPTransport):
    def __init__(self, allowed: Iterable[Network]) -> None:
        super().__init__()
        # httpx has no parameter for the backend of its pool; httpcore's pool has one.
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=httpx.create_ssl_context(),
            max_connections=100,
            max_keepalive_connections=20,
            network_backend=GuardedBackend(allowed),
        )


def make_http_node(allowed: Iterable[Network]) -> Callable[..., Any]:
    """Return the ``http`` node function; ``allowed`` are networks it may reach beyond public ones.

    The client ignores proxies of the environment: through one, the address check would be void.
    """
    client = httpx.AsyncClient(
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
        headers: dict[str, str] | None = None,
        query: dict[str, Any] | None = None,
        json: Any = None,
        body: str | None = None,
        expect_status: int | list[int] | None = None,
    ) -> dict[str, Any]:
        """Send one request; return its status, headers and body (JSON parsed where it is JSON)."""
        content, sent = (
            _content(json, body),
            {key.lower(): str(v) for key, v in (headers or {}).items()},
        )
        if json is not None:
            sent.setdefault("content-type", "application/json")
        if method in _KEYED_METHODS:
            sent.setdefault("idempotency-key", ctx.idempotency_key)
        try:
            async with client.stream(
                method, url, params=query, headers=sent, content=content
            ) as response:
                output = await _read(response)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            refused = isinstance(error.__cause__, AddressRefusedError)
            raise NodeFailedError(
                f"{method} {url}: {str(error) or type(error).__name__}", retryable=not refused
            ) from error
        _check_status(f"{method} {url}", response.status_code, expect_status)
        return output

    return http


def _content(json: Any, body: str | None) -> bytes | None:
    if json is not None:
        return msgspec.json.encode(json)
    return None if body is None else body.encode()


async def _read(response: httpx.Response) -> dict[str, Any]:
    received = bytearray()
    async for chunk in response.aiter_bytes():
        received += chunk
        if len(received) > MAX_RESPONSE_BYTES:
            raise NodeFailedError(
                f"the response is larger than {MAX_RESPONSE_BYTES} bytes", retryable=False
            )
    text = received.decode(response.charset_encoding or "utf-8", errors="replace")
    return {
        "status": response.status_code,
        "headers": dict(response.headers),
        "body": _parsed(response.headers.get("content-type", ""), bytes(received), text),
    }


def _parsed(content_type: str, received: bytes, text: str) -> Any:
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == "application/json" or media_type.endswith("+json"):
        try:
            return msgspec.json.decode(received)
        except msgspec.DecodeError:
            return text
    return text


def _check_status(request: str, status: int, expected: int | list[int] | None) -> None:
    wanted = [expected] if isinstance(expected, int) else expected
    if (status in wanted) if wanted else (status < 400):
        return
    raise NodeFailedError(
        f"{request}: unexpected status {status}", retryable=status >= 500 or status in _PASSING
    )
