"""A stand-in for a service, with behaviour that real services do not have on demand.

It speaks what `tailrace up` expects of a service: READY=1 to NOTIFY_SOCKET, an end on SIGTERM.
The variable STAND_IN names the services (by module) that misbehave, and how.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from types import FrameType


def main(name: str) -> None:
    """Run as the service ``name``."""
    how = dict(part.split("=") for part in os.environ.get("STAND_IN", "").split() if part)
    behaviour = how.get(name, "good")
    signal.signal(signal.SIGTERM, lambda number, frame: stop(name, behaviour, number, frame))
    if behaviour == "refuses":
        sys.stderr.write("a record of the log\n" + f"{name}: the moon is in the wrong quarter\n")
        sys.exit(2)
    if behaviour == "crashes":
        raise RuntimeError("a defect")
    if behaviour == "leaves-a-child":
        subprocess.Popen(["sleep", "1000"])
    sys.stdout.write("printed by mistake\n")
    sys.stdout.flush()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
    while behaviour == "floods":
        sys.stderr.write("flood " * 1000 + "\n")
    while True:
        time.sleep(1000)


def stop(name: str, behaviour: str, _number: int, _frame: FrameType | None) -> None:
    """End, unless configured not to."""
    sys.stderr.write(f"{name} was asked to end\n")
    sys.stderr.flush()
    if behaviour != "stays":
        os._exit(0)
