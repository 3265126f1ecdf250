"""Which addresses the ``http`` node may reach.

A definition is untrusted input, and the worker runs inside a private network. So by default a
request reaches public addresses only (SSRF, CWE-918). The check applies to the very address of the
connection, after resolution, so neither a redirect nor DNS rebinding can bypass it.

The tables are those of IANA's special-purpose address registries. ``ipaddress`` has them, too, but
which of them depends on the version of Python.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Iterable
from typing import Any, Final

import httpcore
import structlog

from tailrace_shared.process.log_throttle import LogThrottle

_log = structlog.get_logger(__name__)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_NOT_PUBLIC_V4: Final = tuple(
    ipaddress.IPv4Network(network)
    for network in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
        *("172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24"),
        *("192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15"),
        *("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
        # The host of a virtual machine in Azure, although the range is public.
        "168.63.129.16/32",
    )
)
# Of IPv6, only global unicast addresses are public, except these.
_GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
_NOT_PUBLIC_V6: Final = tuple(
    ipaddress.IPv6Network(network)
    for network in (
        # Protocol assignments, among them Teredo, benchmarking and ORCHID; documentation; AS112.
        *("2001::/23", "2001:db8::/32", "3fff::/20", "2620:4f:8000::/48"),
    )
)
# IPv4-compatible, IPv4-mapped (RFC 4291), SIIT (RFC 2765) and NAT64 (RFC 6052) addresses embed an
# IPv4 address in their last four bytes.
_EMBEDDING_LAST: Final = tuple(
    ipaddress.IPv6Network(network)
    for network in ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96")
)
_SIX_TO_FOUR: Final = ipaddress.IPv6Network("2002::/16")
_ISATAP_IDENTIFIERS: Final = (b"\x00\x00\x5e\xfe", b"\x02\x00\x5e\xfe")


class AddressRefusedError(httpcore.ConnectError):
    """The request would have reached an address that is neither public nor allowed."""


class GuardedBackend(httpcore.AnyIOBackend):
    """Connects only to addresses that are public or allowed."""

    def __init__(self, allowed: Iterable[Network]) -> None:
        self._allowed = tuple(allowed)
        self._refusals = LogThrottle()

    async def connect_tcp(
        self, host: str, port: int, *args: Any, **options: Any
    ) -> httpcore.AsyncNetworkStream:
        """Resolve ``host``, check all its addresses, and connect to one of them."""
        addresses = await _resolve(host, port)
        for address in addresses:
            if not self._is_allowed(address):
                if self._refusals.is_due():
                    _log.warning("http: address refused", host=host, address=address)
                raise AddressRefusedError(_refusal(host))
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
        reached = effective_address(parsed)
        if any(parsed in network or reached in network for network in self._allowed):
            return True
        return _is_public(reached)


def parse_networks(text: str) -> list[Network]:
    """Parse networks in CIDR form, separated by commas.

    Raises:
        ValueError: one of them is not a network.
    """
    return [ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip()]


def _refusal(host: str) -> str:
    """Return the error for a host, without the address that its name has in this network."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        fault = "has an address that is not public"
    else:
        fault = "is not a public address"
    return f"{host} {fault}: allow its network with TAILRACE_HTTP_ALLOW"


def effective_address(address: Address) -> Address:
    """Return the address that packets reach: for example, ::ffff:127.0.0.1 is loopback."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if any(address in network for network in _EMBEDDING_LAST):
        return ipaddress.IPv4Address(address.packed[12:])
    if address in _SIX_TO_FOUR:
        return ipaddress.IPv4Address(address.packed[2:6])
    if address.packed[8:12] in _ISATAP_IDENTIFIERS:
        return ipaddress.IPv4Address(address.packed[12:])
    return address


def _is_public(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC_V4)
    is_special = any(address in network for network in _NOT_PUBLIC_V6)
    return address in _GLOBAL_UNICAST and not is_special


async def _resolve(host: str, port: int) -> list[str]:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise httpcore.ConnectError(f"cannot resolve {host}: {error}") from error
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))
