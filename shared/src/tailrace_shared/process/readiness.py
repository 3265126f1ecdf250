"""Tell whoever started this process that it is ready (the sd_notify protocol of systemd)."""

import contextlib
import os
import socket


def notify(state: str = "READY=1") -> None:
    """Send ``state`` to the socket named by ``NOTIFY_SOCKET``; do nothing without one."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):  # systemd's spelling of Linux's abstract namespace
        address = "\0" + address[1:]
    # Whoever waited for READY may not listen for what comes later.
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel, contextlib.suppress(OSError):
        channel.sendto(state.encode(), address)
