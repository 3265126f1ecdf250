"""Envoy, Traefik and Caddy as load balancers in front of the API, configured as the docs say.

Their programs are packages of the development environment (``balancers`` in ``pyproject.toml``).
nginx, which is not, has a module of its own.
"""

import os
import subprocess
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Self

import httpx
import yaml

from harness.processes.ports import free_port

_HERE: Final = "127.0.0.1"
_PATIENCE_S: Final = 60.0

Command = list[str]
Address = dict[str, Any]


class Proxy:
    """One proxy process.

    Args:
        configure: writes its configuration into a folder; returns the command that runs it.
        upstream: the port of the API.
        folder: for its configuration and log.

    Attributes:
        port: the port that it listens on.
    """

    def __init__(
        self, configure: Callable[[int, int, Path], Command], upstream: int, folder: Path
    ) -> None:
        folder.mkdir(parents=True)
        self.port = free_port()
        self._log = folder / "proxy.log"
        program, *arguments = configure(self.port, upstream, folder)
        self._command = [str(Path(sysconfig.get_path("scripts"), program)), *arguments]
        # Caddy stores its state below these.
        self._environment = {**os.environ, "HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
        self._process: subprocess.Popen[bytes]

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, env=self._environment
            )
        deadline = time.monotonic() + _PATIENCE_S
        while not self._serves():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self._command[0]} does not start: {self._log.read_text()}")
            time.sleep(0.05)
        return self

    def _serves(self) -> bool:
        """Return whether it reaches the API: Traefik listens before it knows its routes."""
        try:
            return httpx.get(f"http://{_HERE}:{self.port}/openapi.json").is_success
        except httpx.TransportError:
            return False

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(_PATIENCE_S)


def envoy(port: int, upstream: int, folder: Path, host: str = _HERE) -> Command:
    """Configure Envoy without a limit for a response."""
    return _envoy(port, _address(host, upstream), folder, {"timeout": "0s"})


def envoy_by_default(port: int, upstream: int, folder: Path) -> Command:
    """Configure Envoy with its default limit for a response, 15 seconds."""
    return _envoy(port, _address(_HERE, upstream), folder, {})


def _envoy(port: int, upstream: Address, folder: Path, limits: dict[str, str]) -> Command:
    kind = "type.googleapis.com/envoy.extensions.filters"
    router = {"name": "router", "typed_config": {"@type": f"{kind}.http.router.v3.Router"}}
    host = {
        "name": "all",
        "domains": ["*"],
        "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "api", **limits}}],
    }
    manager = {
        "@type": f"{kind}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "api",
        "http_filters": [router],
        "route_config": {"name": "api", "virtual_hosts": [host]},
    }
    listener = {
        "address": _address(_HERE, port),
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    endpoint = {"endpoint": {"address": upstream}}
    cluster = {
        "name": "api",
        "type": "STATIC",
        "connect_timeout": "60s",
        "lb_policy": "LEAST_REQUEST",
        "load_assignment": {"cluster_name": "api", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
    path = folder / "envoy.yaml"
    resources = {"listeners": [listener], "clusters": [cluster]}
    path.write_text(yaml.safe_dump({"static_resources": resources}))
    return ["envoy", "-c", str(path), "--use-dynamic-base-id", "--concurrency", "1"]


def _address(host: str, port: int) -> Address:
    return {"socket_address": {"address": host, "port_value": port}}


def traefik(port: int, upstream: int, folder: Path) -> Command:
    """Configure Traefik with compression of everything but streams."""
    compress = {"compress": {"excludedContentTypes": ["text/event-stream"]}}
    router = {"rule": "PathPrefix(`/`)", "service": "api", "middlewares": ["compress"]}
    server = {"loadBalancer": {"servers": [{"url": f"http://127.0.0.1:{upstream}"}]}}
    http = {
        "routers": {"api": router},
        "services": {"api": server},
        "middlewares": {"compress": compress},
    }
    path = folder / "dynamic.yaml"
    path.write_text(yaml.safe_dump({"http": http}))
    return [
        "traefik",
        f"--entrypoints.web.address=127.0.0.1:{port}",
        f"--providers.file.filename={path}",
        "--global.checknewversion=false",
        "--global.sendanonymoususage=false",
    ]


def caddy(port: int, upstream: int, folder: Path) -> Command:
    """Configure Caddy with compression, which leaves streams alone."""
    path = folder / "Caddyfile"
    path.write_text(
        "{\n  admin off\n  auto_https off\n}\n"
        f"http://127.0.0.1:{port} {{\n  encode gzip\n  reverse_proxy 127.0.0.1:{upstream}\n}}\n"
    )
    return ["caddy", "run", "--config", str(path)]
