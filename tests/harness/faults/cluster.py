"""Three NATS servers, each with a network namespace and a disk that can fail. Needs a sandbox."""

import json
import signal
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Final, Self

from harness.faults.disk import Disk
from harness.faults.network import Network, Side
from harness.nats.server import accepts, nats_server_binary
from harness.processes.freezing import freeze

_NODES: Final = 3
_CLIENT_PORT, _ROUTE_PORT, _MONITOR_PORT = 4222, 6222, 8222
_DISK_MB: Final = 384
_START_TIMEOUT_S: Final = 240.0
_PROBE_TIMEOUT_S: Final = 5.0


class FaultyNode:
    """One server of the cluster.

    Attributes:
        number: its place in the cluster.
        disk: where it stores.
    """

    def __init__(self, number: int, folder: Path) -> None:
        self.number = number
        self.disk = Disk(folder, _DISK_MB)
        self._folder = folder
        self._address = Network.address(number, Side.CLIENTS)
        self._process: subprocess.Popen[bytes] | None = None
        self._was_enabled = False
        routes = ", ".join(
            f'"nats://{Network.address(peer, Side.PEERS)}:{_ROUTE_PORT}"' for peer in range(_NODES)
        )
        (folder / "nats.conf").write_text(
            f'server_name: "{self.name}"\n'
            f"listen: {self._address}:{_CLIENT_PORT}\n"
            f"http: {self._address}:{_MONITOR_PORT}\n"
            f'jetstream {{ store_dir: "{self.disk.path}/store", max_file_store: 64TB }}\n'
            f"cluster {{ name: c, listen: {Network.address(number, Side.PEERS)}:{_ROUTE_PORT}, "
            f"routes: [{routes}] }}\n"
        )

    @property
    def name(self) -> str:
        """The server's name, as ``STREAM.INFO`` says it."""
        return f"n{self.number}"

    @property
    def url(self) -> str:
        """The URL for clients."""
        return f"nats://{self._address}:{_CLIENT_PORT}"

    @property
    def is_running(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the server, unless it runs."""
        if self.is_running:
            return
        with (self._folder / "nats.log").open("ab") as log:
            server = [nats_server_binary(), "-c", str(self._folder / "nats.conf")]
            command = [*Network.inside(self.number), *server]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        self._was_enabled = False

    def kill(self) -> None:
        """Kill the server with SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(_START_TIMEOUT_S)
            self._process = None

    def freeze(self) -> None:
        """Suspend the server with SIGSTOP; its connections stay open."""
        # nsenter has replaced itself by the server.
        freeze(self._running.pid)

    def thaw(self) -> None:
        """Resume a frozen server."""
        self._running.send_signal(signal.SIGCONT)

    @property
    def _running(self) -> "subprocess.Popen[bytes]":
        assert self._process is not None
        return self._process

    def cut(self, *sides: Side) -> None:
        """Lose what this node sends and receives, on all networks by default."""
        for side in sides or Side:
            Network.cut(self.number, side)

    def heal(self) -> None:
        """Undo all cuts."""
        for side in Side:
            Network.heal(self.number, side)

    def is_healthy(self) -> bool:
        """Return whether the server says that it is healthy, with all of its streams."""
        return accepts(self._address, _CLIENT_PORT) and self._monitored("healthz") is not None

    @property
    def has_given_up(self) -> bool:
        """Whether the server has shut JetStream down, as it does after failed writes."""
        # It is disabled at the start, too.
        return bool(self._figures().get("disabled")) and self._was_enabled

    def sees_all_peers(self) -> bool:
        """Return whether there is a meta leader and all peers have joined."""
        meta = self._figures().get("meta_cluster", {})
        return bool(meta.get("leader")) and meta.get("cluster_size") == _NODES

    def _figures(self) -> dict[str, Any]:
        """Return what the server says about its JetStream; empty without an answer."""
        figures = self._monitored("jsz") or {}
        self._was_enabled |= bool(figures) and not figures.get("disabled")
        return figures

    def _monitored(self, page: str) -> dict[str, Any] | None:
        url = f"http://{self._address}:{_MONITOR_PORT}/{page}"
        try:
            with urllib.request.urlopen(url, timeout=_PROBE_TIMEOUT_S) as answer:
                found: dict[str, Any] = json.load(answer)
        except (OSError, urllib.error.URLError):
            return None
        return found


class FaultyCluster:
    """The cluster.

    Args:
        folder: for the disks and logs of the servers.

    Attributes:
        replicas: copies to keep of each stream (``TAILRACE_NATS_REPLICAS``).
        nodes: the servers.
    """

    replicas: Final = _NODES

    def __init__(self, folder: Path) -> None:
        Network(_NODES)
        self.nodes = [FaultyNode(number, folder / f"n{number}") for number in range(_NODES)]

    @property
    def url(self) -> str:
        """The URLs of all servers, as ``NATS_URL`` takes them."""
        return ",".join(node.url for node in self.nodes)

    def node(self, name: str) -> FaultyNode:
        """Return the server of a name."""
        return self.nodes[int(name.removeprefix("n"))]

    def start(self) -> None:
        """Start all servers that do not run or have given up, and wait until all are healthy.

        A server may give up long after the write that failed.

        Raises:
            AssertionError: the cluster does not become healthy.
        """
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not all(node.sees_all_peers() and node.is_healthy() for node in self.nodes):
            assert time.monotonic() < deadline, "the cluster does not become healthy"
            for node in self.nodes:
                if node.has_given_up:
                    node.kill()
                node.start()
            time.sleep(0.05)

    def until_given_up(self) -> None:
        """Wait until all servers have shut JetStream down.

        Raises:
            AssertionError: some have not.
        """
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not all(node.has_given_up for node in self.nodes):
            assert time.monotonic() < deadline, "JetStream survives what should end it"
            time.sleep(0.1)

    def kill(self) -> None:
        """Kill all servers at once."""
        for node in self.nodes:
            node.kill()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
