"""The configuration of the bundled NATS servers makes a cluster of them."""

import base64
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import nats
import pytest
from nats.errors import Error as NatsError

from harness.kubernetes.chart import Chart, Resource
from harness.nats.server import nats_server_binary
from harness.processes.polling import until
from harness.processes.ports import free_port
from tailrace_shared.errors import JetStreamError, UnavailableError
from tailrace_shared.nats.jetstream import JetStream

SERVERS: Final = 3


class BundledServers:
    """The servers as processes, on ports of their own.

    Attributes:
        url: of the first one, with the token.
    """

    def __init__(self, chart: Chart, folder: Path) -> None:
        self._ports = [free_port() for _ in range(SERVERS)]
        self._route_ports = [free_port() for _ in range(SERVERS)]
        bundled = {
            "enabled": True,
            "servers": SERVERS,
            "routes": [f"127.0.0.1:{port}" for port in self._route_ports],
        }
        auth = {"mode": "none", "allowUnauthenticated": True}
        resources = chart.render({"auth": auth, "nats": {"bundled": bundled}})
        found = {(each["kind"], each["metadata"]["name"]): each for each in resources}
        token = base64.b64decode(found["Secret", "demo-nats"]["data"]["token"]).decode()
        text = found["ConfigMap", "demo-nats"]["data"]["nats.conf"]
        [container] = found["StatefulSet", "demo-nats"]["spec"]["template"]["spec"]["containers"]
        self.url = f"nats://{token}@127.0.0.1:{self._ports[0]}"
        self._processes = [
            self._start(number, folder / str(number), text, _environment(container, number, token))
            for number in range(SERVERS)
        ]

    def _start(
        self, number: int, folder: Path, text: str, environment: dict[str, str]
    ) -> subprocess.Popen[bytes]:
        folder.mkdir()
        changes = {
            "port: 4222\n": f"port: {self._ports[number]}\n",
            "port: 6222\n": f"port: {self._route_ports[number]}\n",
            "http_port: 8222\n": "",
            "store_dir: /data\n": f"store_dir: {folder}\n",
        }
        for old, new in changes.items():
            assert text.count(old) == 1
            text = text.replace(old, new)
        path = folder / "nats.conf"
        path.write_text(text)
        with (folder / "nats.log").open("wb") as log:
            return subprocess.Popen(
                [nats_server_binary(), "--config", str(path)],
                env={**os.environ, **environment},
                stdout=log,
                stderr=log,
            )

    def stop(self) -> None:
        """Kill the servers."""
        for process in self._processes:
            process.kill()
            process.wait()


def _environment(container: Resource, number: int, token: str) -> dict[str, str]:
    """Return the variables of a server, as the kubelet would set them."""
    known = {"POD_NAME": f"demo-nats-{number}", "NATS_TOKEN": token}
    set_here = {each["name"]: each["value"] for each in container["env"] if "value" in each}
    return known | {name: value.replace("$(NATS_TOKEN)", token) for name, value in set_here.items()}


@pytest.fixture
def servers(chart: Chart, tmp_path: Path) -> Iterator[BundledServers]:
    started = BundledServers(chart, tmp_path)
    yield started
    started.stop()


async def test_bundled_servers_replicate_streams(servers: BundledServers):
    async def is_replicated() -> bool:
        try:
            client = await nats.connect(servers.url, allow_reconnect=False)
        except (OSError, NatsError):
            return False
        wanted: dict[str, Any] = {"name": "x", "subjects": ["x"], "num_replicas": SERVERS}
        try:
            info = await JetStream(client).api("STREAM.CREATE.x", wanted)
        except (JetStreamError, UnavailableError, NatsError):
            return False
        finally:
            await client.close()
        return len(info["cluster"]["replicas"]) == SERVERS - 1

    await until(is_replicated, 90)
