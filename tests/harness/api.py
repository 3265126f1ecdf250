"""API replicas as processes."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from harness.nats import free_port
from harness.process import ServiceProcess


class ApiProcess(ServiceProcess):
    """One API replica on a port of its own.

    Args:
        nats_url: the NATS that it uses.
        settings: other settings, by the names of their variables.
    """

    def __init__(self, nats_url: str, **settings: str) -> None:
        self.host, self.port = "127.0.0.1", free_port()
        self.url = f"http://{self.host}:{self.port}"
        super().__init__(
            "tailrace_api", {"NATS_URL": nats_url, "TAILRACE_PORT": str(self.port), **settings}
        )


@contextmanager
def api_replicas(count: int, nats_url: str, **settings: str) -> Iterator[list[ApiProcess]]:
    """Run some replicas beside each other."""
    with ExitStack() as stack:
        yield [stack.enter_context(ApiProcess(nats_url, **settings)) for _ in range(count)]
