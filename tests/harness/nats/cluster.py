"""Three NATS servers that keep three copies of what they are told to."""

import subprocess
import time
from pathlib import Path
from typing import Final, Self

from harness.nats.server import accepts, nats_server_binary
from harness.processes.ports import free_port

_SIZE: Final = 3


class NatsCluster:
    """A cluster; every server is reached by a URL of its own.

    Args:
        folder: where they store.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ports = [free_port() for _ in range(_SIZE)]
        self._routes = [free_port() for _ in range(_SIZE)]
        self._processes: list[subprocess.Popen[bytes]] = []

    @property
    def urls(self) -> list[str]:
        """Where clients find the servers."""
        return [f"nats://127.0.0.1:{port}" for port in self._ports]

    def __enter__(self) -> Self:
        """Start the servers and return when they accept clients; they may yet have no leader."""
        for number in range(_SIZE):
            self._start(number)
        deadline = time.monotonic() + 60
        for port in self._ports:
            while not accepts("127.0.0.1", port):
                assert time.monotonic() < deadline, "a server of the cluster does not start"
        return self

    def __exit__(self, *_: object) -> None:
        """End them."""
        for process in self._processes:
            process.kill()
            process.wait(60)

    def _start(self, number: int) -> None:
        routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in self._routes)
        folder = self._folder / str(number)
        folder.mkdir(parents=True)
        configuration = folder / "nats.conf"
        configuration.write_text(
            f'server_name: "n{number}"\n'
            f"listen: 127.0.0.1:{self._ports[number]}\n"
            f'jetstream {{ store_dir: "{folder}/store" }}\n'
            f"cluster {{ name: c, listen: 127.0.0.1:{self._routes[number]}, routes: [{routes}] }}\n"
        )
        with (folder / "nats.log").open("ab") as log:
            command = [nats_server_binary(), "-c", str(configuration)]
            self._processes.append(subprocess.Popen(command, stdout=log, stderr=log))
