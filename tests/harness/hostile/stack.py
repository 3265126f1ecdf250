"""An installation with small limits, and a tenant that uses it while another one attacks it."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import harness.hostile
from harness.hostile.bystander import Bystander
from harness.http.tenants import TENANT_SCOPES
from harness.http.token_issuer import SECRET, bearer, token
from harness.nats.server import NatsServer
from harness.processes.api_process import ApiProcess
from harness.processes.ports import free_port
from harness.processes.service import Service

_MIB: Final = 1024 * 1024
_SETTINGS: Final = {
    "max_live_runs": "80",
    "max_descendants": "100",
    "max_run_depth": "4",
}
_API_SETTINGS: Final = {
    "auth": "jwt",
    "auth_secret": SECRET,
    "max_runs_per_minute": "100",
    "max_tenant_pending_body_bytes": str(4 * _MIB),
    "max_tenant_streams": "300",
    "max_tenant_waiting_requests": "200",
    "receive_timeout": "2s",
}
_WORKER_SETTINGS: Final = {
    "nodes": "hostile_functions",
    "http_allow": "127.0.0.0/8",
    "http_connections": "20",
    "http_timeout": "2s",
    "max_tenant_pending_output_bytes": str(16 * _MIB),
}


class Stack(NamedTuple):
    """The processes of an installation, and the tenant that uses it."""

    nats: NatsServer
    api: ApiProcess
    worker: Service
    bystander: Bystander

    @property
    def pids(self) -> dict[str, int]:
        """The ids of the installation's processes."""
        return {"nats": self.nats.pid, "api": self.api.pid, "worker": self.worker.pid}


@contextmanager
def hostile_stack(folder: Path) -> Iterator[Stack]:
    """Start one process of each service, and the bystander."""
    port = free_port()
    functions = str(Path(harness.hostile.__file__).parent)
    environment = {
        "PYTHONPATH": os.pathsep.join((functions, os.environ.get("PYTHONPATH", ""))),
        "TAILRACE_METRICS_PORT": str(port),
        **{f"TAILRACE_{key.upper()}": each for key, each in (_SETTINGS | _WORKER_SETTINGS).items()},
    }
    headers = bearer(token(sub="ann", org="bystander", scope=TENANT_SCOPES))
    with ExitStack() as closing:
        nats = closing.enter_context(NatsServer(folder / "nats"))
        environment["NATS_URL"] = nats.url
        api = closing.enter_context(ApiProcess(nats.url, folder, **_SETTINGS, **_API_SETTINGS))
        worker = Service("tailrace_worker", environment, folder / "worker.log")
        closing.enter_context(worker)
        bystander = Bystander(
            port=api.port,
            headers=headers,
            worker_port=port,
            api=api.pid,
            worker=worker.pid,
            nats=nats.pid,
        )
        closing.enter_context(bystander)
        yield Stack(nats, api, worker, bystander)
