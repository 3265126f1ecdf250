"""Ports, tried out before anything is started, so that a taken one is a clear message."""

import errno
import os
import socket
from typing import Final

from tailrace.errors import StartError

LOOPBACK: Final = "127.0.0.1"


def api_ports(host: str, first: int, count: int) -> list[int]:
    """Return the ports of the API replicas, from ``first`` upward; 0 takes any free ones.

    Raises:
        StartError: naming the port that cannot be had, and what to do.
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


def nats_port(wanted: int | None, usual: int = 4222) -> int:
    """Return a port for the embedded NATS: the wanted one, else the usual one if it is free.

    Raises:
        StartError: the wanted port cannot be had.
    """
    if wanted:
        with _bound(LOOPBACK, wanted, "--nats-port"):
            return wanted
    if wanted is None:
        try:
            with _bound(LOOPBACK, usual, "--nats-port"):
                return usual
        except StartError:
            pass
    return _free_ports(LOOPBACK, 1)[0]


def _free_ports(host: str, count: int) -> list[int]:
    # All are held until the last is found, or the kernel could name one of them twice.
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
        raise StartError(f"{host!r} is no address of this machine; see --host") from None
    probe = socket.socket(family, kind, protocol)
    try:
        # As servers do: connections of a previous start, still winding down, are no obstacle.
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
        return f"{host!r} is no address of this machine; see --host"
    reason = os.strerror(error.errno or 0)
    return f"cannot listen on {host}:{port}: {reason}; choose another with {port_option}"
