"""Restate and DBOS, which run in an environment separate from the project's.

``tailrace bench engine --install`` fetches pinned versions into the folder ``.bench`` of the
checkout: Restate's server with npm, the Python packages of the dependency group ``engines`` with
uv. No other part of the project uses them.
"""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import httpx

from benchmarks.load import Engine, Mode, post, timed
from harness.processes.ports import free_port

INSTALL: Final = "tailrace bench engine --install"
EACH_STEP: Final = {
    "Restate": "ctx.run_typed of an async function that returns {}. One journal entry a step, in "
    "the server's replicated log, acknowledged before the next one starts; the SDK under "
    "hypercorn with uvloop, started by POST to the ingress, ended with its answer.",
    "DBOS": "@DBOS.step of an async function that returns {}. One SQLite transaction a step, with "
    "its output, committed before the next one starts; started and awaited inside the worker "
    "process, without HTTP.",
}
_CHECKOUT: Final = Path(__file__).parents[1]

_CACHE: Final = _CHECKOUT / ".bench"
_RESTATE_SERVER: Final = "@restatedev/restate-server@1.7.12"
_BIN: Final = _CACHE / "venv" / "bin"
_READY_TIMEOUT_S: Final = 30.0


def install() -> None:
    """Install the other engines and the profiler into the folder ``.bench``."""
    python = str(_BIN / "python")
    for command in (
        ["uv", "venv", "--allow-existing", "--python", sys.executable, str(_CACHE / "venv")],
        ["uv", "pip", "install", "--python", python, "--group", "engines"],
        # Run no install scripts: one of the packages reports its installation to a third party.
        ["npm", "install", "--ignore-scripts", "--prefix", str(_CACHE / "npm"), _RESTATE_SERVER],
    ):
        if shutil.which(command[0]) is None:
            raise SystemExit(
                f"{command[0]} is not installed; it fetches the engines to compare with"
            )
        subprocess.run(command, cwd=_CHECKOUT, check=True)


def installed(program: str) -> Path | None:
    """Return the path of a program in the environment of the peers, or None."""
    path = _BIN / program
    return path if path.exists() else None


def restate_server() -> Path | None:
    """Return the path of Restate's server, or None if it is not installed."""
    return next(_CACHE.glob("npm/node_modules/@restatedev/*/bin/restate-server"), None)


class Restate:
    """A running Restate server with one service in Python."""

    def __init__(self, url: str, *, synced: bool, processes: dict[str, list[int]]) -> None:
        self.processes = processes
        self._url = f"{url}/flow/chain"
        self.mode = (
            Mode(
                "Restate", "before each ack, in groups (default)", "power failure", is_default=True
            )
            if synced
            else Mode("Restate", "never (WAL fsync off)", "process crash", is_default=False)
        )

    async def run(self, length: int) -> float:
        """Run one chain with one request; return the seconds until its response."""
        return await timed(post(self._url, length))

    async def burst(self, executions: int, length: int) -> float:
        """Run chains concurrently, one request each."""
        return await timed(asyncio.gather(*(self.run(length) for _ in range(executions))))


@asynccontextmanager
async def restate(folder: Path, *, synced: bool, workers: int) -> AsyncIterator[Engine | None]:
    """Run Restate with ``workers`` processes of its Python service; yield None if not installed."""
    binary, hypercorn = restate_server(), installed("hypercorn")
    if binary is None or hypercorn is None:
        yield None
        return
    ports = free_port(4)
    node, ingress, admin, service = (f"127.0.0.1:{ports + i}" for i in range(4))
    settings = {
        "RESTATE_BIND_ADDRESS": node,
        "RESTATE_INGRESS__BIND_ADDRESS": ingress,
        "RESTATE_ADMIN__BIND_ADDRESS": admin,
        "RESTATE_LISTEN_MODE": "tcp",
        "RESTATE_DISABLE_TELEMETRY": "true",
        "RESTATE_LOG_SERVER__ROCKSDB_DISABLE_WAL_FSYNC": "false" if synced else "true",
    }
    serve = [str(hypercorn), "-k", "uvloop", "-w", str(workers), "-b", service]
    async with AsyncExitStack() as stack:
        start = ["--base-dir", str(folder / "restate"), "--node-name", "bench", "--no-logo"]
        server = await stack.enter_async_context(
            _process([str(binary), *start], folder / "restate.log", settings)
        )
        app = "benchmarks.restate_service:app"
        python = await stack.enter_async_context(
            _process([*serve, app], folder / "hypercorn.log", {"PYTHONPATH": str(_CHECKOUT)})
        )
        await _register(f"http://{admin}", f"http://{service}")
        processes = {"service": [python.pid], "restate-server": [server.pid]}
        yield Restate(f"http://{ingress}", synced=synced, processes=processes)


async def _register(admin: str, service: str) -> None:
    """Register the service with the server, once both are up."""
    async with httpx.AsyncClient() as client, asyncio.timeout(_READY_TIMEOUT_S):
        while True:
            try:
                answer = await client.post(f"{admin}/deployments", json={"uri": service})
            except httpx.TransportError:
                pass
            else:
                if answer.is_success:
                    return
            await asyncio.sleep(0.1)


class Dbos:
    """A process that runs DBOS and its client; DBOS has no server."""

    def __init__(self, process: asyncio.subprocess.Process, *, synced: bool) -> None:
        self.processes = {"process": [process.pid]}
        self._process = process
        self.mode = (
            Mode("DBOS", "each transaction (SQLite's default)", "power failure", is_default=True)
            if synced
            else Mode("DBOS", "never (PRAGMA synchronous=OFF)", "process crash", is_default=False)
        )

    async def run(self, length: int) -> float:
        """Run one chain."""
        return await self.burst(1, length)

    async def burst(self, executions: int, length: int) -> float:
        """Run chains concurrently; return the seconds that the process measured.

        Raises:
            RuntimeError: the process has ended.
        """
        order = json.dumps({"executions": executions, "length": length})
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(f"{order}\n".encode())
        if not (answer := await stdout.readline()):
            raise RuntimeError("the DBOS process has ended")
        return float(answer)


@asynccontextmanager
async def dbos(folder: Path, *, synced: bool) -> AsyncIterator[Engine | None]:
    """Run DBOS on SQLite; yield None if it is not installed."""
    python = installed("python")
    if python is None:
        yield None
        return
    script = [str(python), "-P", "-m", "benchmarks.dbos_process", str(folder / "dbos.sqlite")]
    command = [*script, "FULL" if synced else "OFF"]
    environment = {"PYTHONPATH": str(_CHECKOUT)}
    async with _process(command, folder / "dbos.log", environment) as process:
        yield Dbos(process, synced=synced)


@asynccontextmanager
async def _process(
    command: list[str], log: Path, settings: dict[str, str]
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a process whose stderr goes to a log, and end it afterwards."""
    with log.open("ab") as file:
        process = await asyncio.create_subprocess_exec(
            *command,
            env={**os.environ, **settings},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE if "benchmarks.dbos_process" in command else file,
            stderr=file,
            cwd=log.parent,
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), 10)
        except TimeoutError:
            process.kill()
            await process.wait()
