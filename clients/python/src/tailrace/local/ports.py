"""Check ports before any process starts, so that a taken port gives a clear message."""

import errno
import os
import socket
from typing import Final

from tailrace.errors import StartError

LOOPBACK: Final = "127.0.0.1"


def api_ports(host: str, first: int, count: int) -> list[int]:
    """Return the ports of the API replicas, from ``first`` upward; 0 takes any free ones.

    Raises:
        StartError: a port cannot be used; the message names it and a remedy.
    """
    if first == 0:
        return _free_ports(host, count)
    if first + count - 1 > 65535:
        raise StartError(f"{count} API replicas do not fit above port {first}; use a lower --port")
    ports = list(range(first, first + count))
    for port in ports:
        with _bound(host, port, "--port"):
            pass
    return ports


def nats_port(requested: int | None, default: int = 4222) -> int:
    """Return a port for the embedded NATS: ``requested``, else ``default`` if it is free.

    Raises:
        StartError: the requested port cannot be used.
    """
    if requested:
        with _bound(LOOPBACK, requested, "--nats-port"):
            return requested
    if requested is None:
        try:
            with _bound(LOOPBACK, default, "--nats-port"):
                return default
        except StartError:
            pass
    return _free_ports(LOOPBACK, 1)[0]


def _free_ports(host: str, count: int) -> list[int]:
    # Keep all sockets open until the last is bound, or the kernel could return a port twice.
    held = [_bound(host, 0, "--port") for _ in range(count)]
    ports: list[int] = [probe.getsockname()[1] for probe in held]
    for probe in held:
        probe.close()
    return ports


def _bound(host: str, port: int, port_option: str) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError:
        raise StartError(f"{host!r} is not an address of this machine; see --host") from None
    probe = socket.socket(family, kind, protocol)
    try:
        # As servers do: closing connections of a previous start must not block the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
    except OSError as error:
        probe.close()
        raise StartError(_sentence(error, host, port, port_option)) from None
    return probe


def _sentence(error: OSError, host: str, port: int, port_option: str) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is taken; choose another with {port_option}"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{host!r} is not an address of this machine; see --host"
    reason = os.strerror(error.errno or 0)
    return f"cannot listen on {host}:{port}: {reason}; choose another with {port_option}"
