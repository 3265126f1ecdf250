"""NATS in a container, through testcontainers.

The image is the own one of the product, built without a registry. Where no Docker engine runs, the
same tests run the binary as a process.
"""

import functools
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final, Self

import docker
import docker.errors
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer

from harness.nats.server import accepts

_BUILD: Final = Path(__file__).parents[3] / "deploy/images/build.py"
# Installations reserve space, and tests make many, on disks of any size.
_CONFIGURATION: Final = 'jetstream { store_dir: "/data", max_file_store: 64TB }\n'
_MOUNTED: Final = "/etc/nats/tests.conf"


@functools.cache
def docker_is_running() -> bool:
    """Return whether a Docker engine responds."""
    try:
        return bool(docker.from_env().ping())
    except docker.errors.DockerException:
        return False


@functools.cache
def load_image() -> str:
    """Build the image of NATS and load it into the engine; return its name."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, str(_BUILD), folder, "nats"], check=True)
        [image] = docker.from_env().images.load(Path(folder, "nats.tar").read_bytes())
    return str(image.tags[0])


class NatsContainer:
    """One nats-server with JetStream in a container; the interface is that of NatsServer.

    Attributes:
        replicas: copies to keep of each stream (``TAILRACE_NATS_REPLICAS``).
    """

    replicas: Final = 1

    def __init__(self) -> None:
        # The reaper is another image, which would need a registry. Tests stop what they start.
        testcontainers_config.ryuk_disabled = True
        self._folder = tempfile.TemporaryDirectory()
        configuration = Path(self._folder.name, "nats.conf")
        configuration.write_text(_CONFIGURATION)
        # The server in the container is another user.
        configuration.parent.chmod(0o755)
        container = DockerContainer(load_image()).with_command(f"-c {_MOUNTED}")
        container = container.with_volume_mapping(str(configuration), _MOUNTED, "ro")
        self._container = container.with_exposed_ports(4222)
        self.url = ""

    def start(self) -> Self:
        """Start the container and return when the server accepts clients."""
        self._container.start()
        host = self._container.get_container_host_ip()
        port = int(self._container.get_exposed_port(4222))
        self.url = f"nats://{host}:{port}"
        while not accepts(host, port):
            self._container.get_wrapped_container().reload()
            if self._container.get_wrapped_container().status == "exited":
                raise RuntimeError(f"nats-server ended: {self._container.get_logs()}")
        return self

    def stop(self) -> None:
        """Stop and remove the container."""
        self._container.stop()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
