"""Report readiness to the process supervisor (the sd_notify protocol of systemd)."""

import contextlib
import os
import socket


def notify(state: str = "READY=1") -> None:
    """Send ``state`` to the socket that ``NOTIFY_SOCKET`` names; do nothing if it is unset."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):  # systemd's spelling of Linux's abstract namespace
        address = "\0" + address[1:]
    # A supervisor that waited for READY may have closed its socket since.
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel, contextlib.suppress(OSError):
        channel.sendto(state.encode(), address)
