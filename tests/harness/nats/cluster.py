"""A cluster of three NATS servers, which keeps three copies of each replicated stream."""

import json
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any, Final, Self

from harness.nats.server import accepts, nats_server_binary
from harness.processes.freezing import freeze
from harness.processes.ports import free_port

_NODES: Final = 3
_START_TIMEOUT_S: Final = 60.0
_MEMORY: Final = Path("/dev/shm")
_MIN_MEMORY_BYTES: Final = 2 * 2**30


class NatsCluster:
    """Three servers with JetStream; clients may connect to any of them.

    They store in memory where there is enough: the streams of one installation are a thousand
    files, whose creation and deletion on a disk costs more time than most tests.

    Args:
        folder: for their logs and configurations, and for what they store without such memory.

    Attributes:
        replicas: copies to keep of each stream (``TAILRACE_NATS_REPLICAS``).
    """

    replicas: Final = _NODES

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stores: tempfile.TemporaryDirectory[str] | None = None
        self._ports = [free_port() for _ in range(_NODES)]
        self._route_ports = [free_port() for _ in range(_NODES)]
        self._monitor_ports = [free_port() for _ in range(_NODES)]
        self._processes: list[subprocess.Popen[bytes]] = []

    @property
    def urls(self) -> list[str]:
        """The URL of each server."""
        return [f"nats://127.0.0.1:{port}" for port in self._ports]

    @property
    def url(self) -> str:
        """All servers, as ``NATS_URL`` takes them."""
        return ",".join(self.urls)

    @property
    def pids(self) -> dict[str, int]:
        """The processes of the running servers, by the names that JetStream has for them."""
        return {f"n{number}": process.pid for number, process in enumerate(self._processes)}

    def __enter__(self) -> Self:
        """Start the servers; return when all accept clients and JetStream has a meta leader."""
        self.launch()
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not all(map(self._is_ready, range(_NODES))):
            assert time.monotonic() < deadline, f"the cluster does not start: see {self._folder}"
            time.sleep(0.02)
        return self

    def launch(self) -> None:
        """Start the servers, without waiting until they are ready."""
        self._folder.mkdir(parents=True, exist_ok=True)
        has_memory = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free >= _MIN_MEMORY_BYTES
        where = _MEMORY if has_memory else self._folder
        self._stores = tempfile.TemporaryDirectory(prefix="nats-cluster-", dir=where)
        for number in range(_NODES):
            self._start(number)

    def freeze(self, number: int) -> None:
        """Suspend a server with SIGSTOP; its connections stay open."""
        freeze(self._processes[number].pid)

    def thaw(self, number: int) -> None:
        """Resume a frozen server."""
        self._processes[number].send_signal(signal.SIGCONT)

    def meta_leader(self) -> int:
        """Return the number of the server that creates and deletes streams."""
        name: str = self._meta_group(0)["leader"]
        return int(name.removeprefix("n"))

    def number_of(self, url: str) -> int:
        """Return the number of the server with a URL."""
        return self.urls.index(url)

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.wait(_START_TIMEOUT_S)
        if self._stores is not None:
            self._stores.cleanup()

    def _start(self, number: int) -> None:
        assert self._stores is not None
        routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in self._route_ports)
        folder = self._folder / str(number)
        folder.mkdir(parents=True)
        configuration = folder / "nats.conf"
        route_port = self._route_ports[number]
        configuration.write_text(
            f'server_name: "n{number}"\n'
            f"listen: 127.0.0.1:{self._ports[number]}\n"
            f"http: 127.0.0.1:{self._monitor_ports[number]}\n"
            f'jetstream {{ store_dir: "{self._stores.name}/{number}", max_file_store: 64TB }}\n'
            f"cluster {{ name: c, listen: 127.0.0.1:{route_port}, routes: [{routes}] }}\n"
        )
        with (folder / "nats.log").open("ab") as log:
            command = [nats_server_binary(), "-c", str(configuration)]
            self._processes.append(subprocess.Popen(command, stdout=log, stderr=log))

    def _is_ready(self, number: int) -> bool:
        if not accepts("127.0.0.1", self._ports[number]):
            return False
        meta = self._meta_group(number)
        # `cluster_size` counts the peers that have joined.
        return bool(meta.get("leader")) and meta.get("cluster_size") == _NODES

    def _meta_group(self, number: int) -> dict[str, Any]:
        """Return what a server says about the group of servers that places streams."""
        url = f"http://127.0.0.1:{self._monitor_ports[number]}/jsz"
        with urllib.request.urlopen(url) as answer:
            meta: dict[str, Any] = json.load(answer).get("meta_cluster", {})
        return meta
