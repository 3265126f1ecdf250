"""Start and stop all services of ``tailrace up``.

All checks run before any process starts. NATS starts first, then API replicas and workers
concurrently. They stop in the opposite order, so no service loses a dependency that it still needs:
the API stops accepting runs, workers finish or hand over their jobs, NATS writes its store.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import msgspec

from tailrace.errors import StartError, TailraceError
from tailrace.local import demo
from tailrace.local.child import Child, Program
from tailrace.local.console import Console
from tailrace.local.data_dir import DataDir
from tailrace.local.embedded_nats import check_running_nats, embedded_nats, store_folder, token_file
from tailrace.local.file_watch import changed_files
from tailrace.local.ports import LOOPBACK, api_ports, nats_port
from tailrace.local.readiness import ReadinessSocket, socket_folder
from tailrace.local.store_watch import StoreWatch, probe_address
from tailrace.local.supervisor import Supervisor
from tailrace.profiles import DEFAULT_URL

# Seconds after the beginning of the stop at which the rest of a group is killed. The last deadline
# leaves a margin to the documented ten seconds. Workers get most of the time, to finish steps.
API_DEADLINE_S: Final = 3.0
WORKER_DEADLINE_S: Final = 8.0
NATS_DEADLINE_S: Final = 9.0

_SECOND_SIGNAL_S: Final = 0.5
"""Time after which a further signal kills the processes. An earlier one may be the first signal
again, sent by the terminal and forwarded by a wrapper such as ``uv run``."""

API_SECRETS: Final = frozenset({"TAILRACE_AUTH_SECRET", "TAILRACE_AUTH_SECRET_FILE"})
_NODE_SECRETS: Final = "TAILRACE_SECRET_"
"""Prefix of the variables that hold secrets of workflow definitions."""

_NATS_FILES: Final = tuple(
    f"TAILRACE_NATS_{name}_FILE" for name in ("CREDS", "TOKEN", "CA", "CERT", "KEY")
)
"""Settings of a NATS that is not the embedded one."""

_DEMO_WORKFLOW: Final = "hic-dirt02-001"
"""The example that needs no input."""

API_MODULE: Final = "tailrace_api"
WORKER_MODULE: Final = "tailrace_worker"


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The options of ``tailrace up``."""

    host: str = LOOPBACK
    port: int = 8080
    api_replicas: int = 1
    workers: int = 1
    data_dir: Path = Path(".tailrace")
    nats: str | None = None
    nats_port: int | None = None
    demo: bool = False
    reload: bool = False


async def run(options: Options) -> None:
    """Run all services until a signal; return when all processes have ended.

    Raises:
        StartError: a service cannot start; all processes have ended.
    """
    with ExitStack() as resources:
        console = Console()
        resources.callback(console.close)
        system = System(options, console, resources)
        with _signals(system):
            await system.run()


class System:
    """The processes of one ``tailrace up``."""

    def __init__(self, options: Options, console: Console, resources: ExitStack) -> None:
        self._options = options
        self._console = console
        self._resources = resources
        self._supervisor = Supervisor(console)
        self._nats: list[Child] = []
        self._workers: list[Child] = []
        self._api: list[Child] = []
        self._stopping = asyncio.Event()
        self._stopping_since = 0.0
        self._nats_url = ""
        self._watching: asyncio.Task[None] | None = None
        self._reloading: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Start all services, print the ready line, wait for a stop, and stop them."""
        start = asyncio.create_task(self._start())
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({start, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if start.done():
                start.result()
                await stopping
        finally:
            start.cancel()
            await asyncio.gather(start, return_exceptions=True)
            await self._stop()

    def stop(self) -> None:
        """Begin to stop; kill the remaining processes if called again later."""
        now = asyncio.get_running_loop().time()
        if not self._stopping.is_set():
            self._stopping_since = now
            self._stopping.set()
        elif now - self._stopping_since >= _SECOND_SIGNAL_S:
            self._supervisor.kill([*self._api, *self._workers, *self._nats])

    async def _start(self) -> None:
        options = self._options
        _check_services()
        ports = api_ports(options.host, options.port, options.api_replicas)
        self._nats_url = await self._start_nats()
        environment = self._environment()
        sockets = Path(self._resources.enter_context(socket_folder()))
        self._api = [
            self._service(
                f"api-{number}",
                API_MODULE,
                sockets,
                {
                    **_without_node_secrets(environment),
                    "TAILRACE_HOST": options.host,
                    "TAILRACE_PORT": str(port),
                },
            )
            for number, port in enumerate(ports, 1)
        ]
        self._workers = [
            self._service(f"worker-{number}", WORKER_MODULE, sockets, _without_secrets(environment))
            for number in range(1, options.workers + 1)
        ]
        await self._supervisor.start([*self._api, *self._workers])
        self._watch_store(ports[0])
        urls = [_url(options.host, port) for port in ports]
        if options.demo:
            await self._install_examples(urls[0])
        if options.reload:
            self._reloading = asyncio.create_task(self._reload())
            await asyncio.sleep(0)  # it watches before the ready line is printed
        self._say_ready(urls)

    async def _reload(self) -> None:
        async for path in changed_files(Path.cwd()):
            self._console.say(f"{path} has changed; restarting the workers")
            await asyncio.gather(*map(self._supervisor.replace, self._workers))

    def _environment(self) -> dict[str, str]:
        """Return the common environment of all services."""
        environment = {**_defaults(), **os.environ, "NATS_URL": self._nats_url}
        if self._nats:
            for name in _NATS_FILES:
                environment.pop(name, None)
            environment["TAILRACE_NATS_TOKEN_FILE"] = str(
                token_file(self._options.data_dir.absolute())
            )
        return demo.worker_environment(environment) if self._options.demo else environment

    async def _start_nats(self) -> str:
        options = self._options
        if options.nats is not None:
            await check_running_nats(options.nats)
            return options.nats
        port = nats_port(options.nats_port)
        data_dir = DataDir(options.data_dir)
        self._nats = [self._child(embedded_nats(data_dir, port))]
        await self._supervisor.start(self._nats)
        return f"nats://{LOOPBACK}:{port}"

    def _watch_store(self, api_port: int) -> None:
        for nats in self._nats:
            watch = StoreWatch(
                probe_address(self._options.host, api_port),
                store_folder(self._options.data_dir.absolute()),
                partial(self._supervisor.restart, nats),
                self._console,
            )
            self._watching = asyncio.create_task(watch.run())

    def _service(
        self, name: str, module: str, sockets: Path, environment: Mapping[str, str]
    ) -> Child:
        readiness = ReadinessSocket(sockets / name)
        self._resources.callback(readiness.close)
        return self._child(
            Program(
                name,
                [sys.executable, "-m", module],
                {**environment, "NOTIFY_SOCKET": str(readiness.path)},
                readiness.ready.wait,
            )
        )

    def _child(self, program: Program) -> Child:
        return Child(program, self._console, prefix=sys.stderr.isatty())

    async def _install_examples(self, url: str) -> None:
        try:
            await asyncio.to_thread(_install_examples, url)
        except TailraceError as error:
            raise StartError(f"cannot install the examples: {error}") from None

    def _say_ready(self, urls: list[str]) -> None:
        if self._nats:
            self._console.say(f"NATS is at {self._nats_url}")
        for url in urls[1:]:
            self._console.say(f"another API replica is at {url}")
        # One write including the newline: stderr may write to the same file in between.
        sys.stdout.write(f"ready {urls[0]}\n")
        sys.stdout.flush()
        self._console.say(f"next: {_next_command(urls[0], demo=self._options.demo)}")

    async def _stop(self) -> None:
        begin = asyncio.get_running_loop().time()
        for task in (self._watching, self._reloading):
            if task is not None:
                task.cancel()
        await self._supervisor.stop(self._api, begin + API_DEADLINE_S)
        await self._supervisor.stop(self._workers, begin + WORKER_DEADLINE_S)
        await self._supervisor.stop(self._nats, begin + NATS_DEADLINE_S)


def _next_command(url: str, *, demo: bool) -> str:
    """Return a command for another terminal."""
    setting = "" if url == DEFAULT_URL else f"TAILRACE_URL={url} "
    return f"{setting}tailrace " + (f"run {_DEMO_WORKFLOW} --watch" if demo else "apply FILE")


def _check_services() -> None:
    for module in (API_MODULE, WORKER_MODULE):
        if find_spec(module) is None:
            raise StartError(f"{module} is not installed: install tailrace with its extra `server`")


def _install_examples(url: str) -> None:
    # Imported while the services start: importing httpx takes as long as starting the API.
    from tailrace.local import examples  # noqa: PLC0415

    examples.install(
        url, os.environ.get("TAILRACE_TOKEN", ""), os.environ.get("TAILRACE_ORGANIZATION", "")
    )


def _defaults() -> dict[str, str]:
    is_terminal = sys.stderr.isatty()
    return {
        "TAILRACE_LOG_FORMAT": "console" if is_terminal else "json",
        # In a terminal the address and the next command should stay the last lines.
        **({"TAILRACE_LOG_LEVEL": "warning"} if is_terminal else {}),
        # Shorter than the service's default, so that time remains for the workers.
        "TAILRACE_DRAIN_TIMEOUT": "2s",
        "PYTHONUNBUFFERED": "1",
    }


def _without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    # Workers run functions of users, and a holder of the secret can issue tokens.
    return {name: value for name, value in environment.items() if name not in API_SECRETS}


def _without_node_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    # The API runs no nodes, so it does not need their secrets.
    return {
        name: value for name, value in environment.items() if not name.startswith(_NODE_SECRETS)
    }


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextmanager
def _signals(system: System) -> Iterator[None]:
    """Stop ``system`` on a signal, and ignore signals after it has stopped.

    Not with ``loop.add_signal_handler``, which restores the default handler: a further Ctrl-C would
    then end a clean stop with a traceback.
    """
    loop = asyncio.get_running_loop()
    handled = [signal.SIGINT, signal.SIGTERM]
    # Under nohup, a closed terminal must not stop the system.
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        handled.append(signal.SIGHUP)
    for number in handled:
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(system.stop))
    try:
        yield
    finally:
        for number in handled:
            signal.signal(number, signal.SIG_IGN)
