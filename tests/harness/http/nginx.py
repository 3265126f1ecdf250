"""An nginx process with a configuration that the test provides."""

import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Final, Self

from harness.processes.required_tools import skip_or_fail

_SEARCH_PATH: Final = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
_CONFIGURATION: Final = """
{modules}
{user}
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
worker_processes 1;
worker_rlimit_nofile {open_files};
events {{ worker_connections {open_files}; }}
http {{
    access_log off;
    client_body_temp_path {folder}/bodies;
    proxy_temp_path {folder}/proxied;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {http}
}}
"""
_OPEN_FILES: Final = 12_000


def nginx_binary() -> str | None:
    """Return the path of nginx, or None if it is not installed."""
    return shutil.which("nginx", path=_SEARCH_PATH)


class Nginx:
    """One nginx with one worker process.

    Args:
        port: the port that ``http`` makes it listen on.
        http: the contents of its ``http`` block.
        folder: for its configuration, logs and temporary files.
        modules: the ``load_module`` lines.
    """

    def __init__(self, port: int, http: str, folder: Path, modules: str = "") -> None:
        self.port = port
        self._folder = folder
        self._file = folder / "nginx.conf"
        self._file.write_text(
            _CONFIGURATION.format(
                # As root, nginx would run its worker as a user who may not enter the test's folder.
                user="user root;" if os.geteuid() == 0 else "",
                folder=folder,
                open_files=_OPEN_FILES,
                http=http,
                modules=modules,
            )
        )
        self._process: subprocess.Popen[bytes]

    def __enter__(self) -> Self:
        binary = nginx_binary()
        if binary is None:
            skip_or_fail("nginx", "apt-get install nginx")
        error_log = self._folder / "error.log"
        self._process = subprocess.Popen(
            [binary, "-p", str(self._folder), "-e", str(error_log), "-c", str(self._file)],
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 60
        # nginx listens before it has a worker process.
        while not self._workers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"nginx does not start: {error_log.read_text()}")
            time.sleep(0.01)
        return self

    @property
    def worker_pid(self) -> int:
        """Return the process id of the worker."""
        return self._workers()[0]

    def _workers(self) -> list[int]:
        pid = self._process.pid
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        except FileNotFoundError:
            return []
        return [int(child) for child in children.split()]

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(60)


def balancer(port: int, upstreams: list[int]) -> str:
    """Return a configuration that balances streams over replicas, as in a deployment."""
    servers = " ".join(f"server 127.0.0.1:{upstream} max_fails=0;" for upstream in upstreams)
    return f"""
    upstream api {{ {servers} }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://api;
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header Connection "";
            proxy_buffering off;
            proxy_read_timeout 1h;
        }}
    }}
    """
