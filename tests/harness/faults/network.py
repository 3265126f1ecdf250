"""Two networks of namespaces, one for clients and one between servers, that can be cut.

Must run in a sandbox (`sandbox.py`). A cut is silent: frames are dropped, both ends keep their
addresses and their connections, as when a switch fails.
"""

import subprocess
from enum import StrEnum
from pathlib import Path
from typing import Final

_NETNS: Final = Path("/run/netns")


class Side(StrEnum):
    """A network that a node is attached to."""

    CLIENTS = "clients"
    PEERS = "peers"


_SUBNET: Final = {Side.CLIENTS: "10.77.0", Side.PEERS: "10.77.1"}


def run(*command: str) -> str:
    """Run a command; return its output.

    Raises:
        RuntimeError: it failed.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


class Network:
    """Bridges and the namespaces of nodes; this process is on the clients' side."""

    def __init__(self, nodes: int) -> None:
        _NETNS.mkdir(parents=True, exist_ok=True)
        # Names of namespaces are files; keep them out of the machine's list.
        run("mount", "-t", "tmpfs", "tmpfs", str(_NETNS))
        run("ip", "link", "set", "lo", "up")
        for side in Side:
            run("ip", "link", "add", side, "type", "bridge")
            run("ip", "link", "set", side, "up")
        run("ip", "addr", "add", f"{_SUBNET[Side.CLIENTS]}.1/24", "dev", Side.CLIENTS)
        for number in range(nodes):
            self._attach(number)

    def _attach(self, number: int) -> None:
        name = f"n{number}"
        run("ip", "netns", "add", name)
        run("ip", "-n", name, "link", "set", "lo", "up")
        for side in Side:
            outer = _outer(number, side)
            pair = ("type", "veth", "peer", "name", side, "netns", name)
            run("ip", "link", "add", outer, *pair)
            run("ip", "link", "set", outer, "master", side, "up")
            address = f"{self.address(number, side)}/24"
            run("ip", "-n", name, "addr", "add", address, "dev", side)
            run("ip", "-n", name, "link", "set", side, "up")

    @staticmethod
    def address(number: int, side: Side) -> str:
        """Return the address of a node on a network."""
        return f"{_SUBNET[side]}.{10 + number}"

    @staticmethod
    def inside(number: int) -> list[str]:
        """Return the beginning of a command that runs in a node's namespace."""
        return ["nsenter", f"--net={_NETNS}/n{number}", "--"]

    @staticmethod
    def cut(number: int, side: Side) -> None:
        """Lose all frames from and to a node on one network."""
        run("ip", "link", "set", _outer(number, side), "nomaster")

    @staticmethod
    def heal(number: int, side: Side) -> None:
        """Undo :meth:`cut`."""
        run("ip", "link", "set", _outer(number, side), "master", side)


def _outer(number: int, side: Side) -> str:
    return f"{side}-{number}"
