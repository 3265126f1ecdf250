"""API replicas as processes."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from harness.processes.ports import free_port
from harness.processes.service import Service


class ApiProcess(Service):
    """One API replica.

    Args:
        nats_url: the NATS that it connects to.
        folder: for its log file.
        settings: fields of ``ApiSettings``, as strings.

    Attributes:
        port: the port that it listens on.
        url: the URL of that port.
    """

    def __init__(self, nats_url: str, folder: Path, **settings: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        environment = {"NATS_URL": nats_url, "TAILRACE_PORT": str(self.port)}
        for name, value in settings.items():
            environment[f"TAILRACE_{name.upper()}"] = value
        super().__init__("tailrace_api", environment, folder / f"api-{self.port}.log")


@contextmanager
def api_replicas(
    count: int, nats_url: str, folder: Path, **settings: str
) -> Iterator[list[ApiProcess]]:
    """Run several replicas on the same NATS."""
    with ExitStack() as stack:
        yield [stack.enter_context(ApiProcess(nats_url, folder, **settings)) for _ in range(count)]


def refused_start(**environment: str) -> str:
    """Start an API with invalid settings; return its only line on stderr."""
    process = subprocess.run(
        [sys.executable, "-m", "tailrace_api"],
        env={"PATH": "/usr/bin:/bin", "TAILRACE_PORT": "0", **environment},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert process.returncode == 2, process.stderr
    assert process.stdout == ""
    (line,) = process.stderr.splitlines()
    assert line.startswith("tailrace-api: ")
    return line
