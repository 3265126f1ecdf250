"""Run the API service: ``python -m tailrace_api``, or ``tailrace-api``."""

import asyncio
import contextlib
import gc
import resource
import sys
from typing import Final

import msgspec
import uvloop

from tailrace_api.app import create_app
from tailrace_api.http.descriptors import reserve_descriptors
from tailrace_api.http.startup_probes import answering_probes
from tailrace_api.processes import Supervisor
from tailrace_api.server import Server, bind, bind_internal, internal_server
from tailrace_shared.errors import StartupError
from tailrace_shared.process.freed_memory import return_freed_memory
from tailrace_shared.process.settings_reader import (
    read_settings,
    refuse_arguments,
    warn_of_service_links,
)
from tailrace_shared.process.telemetry import configure_logging
from tailrace_shared.redact.credentials import redact_credentials
from tailrace_shared.settings import ApiSettings

_SWITCH_INTERVAL_S: Final = 0.001
# Of the garbage collector's three generations. One of the second takes 3 ms, as it comes after ten
# thousand objects; a full one comes after a million.
_GC_THRESHOLDS: Final = (5_000, 1, 100)
# Connections of requests that are no streams, and files.
_OTHER_DESCRIPTORS: Final = 1_000


async def _serve(settings: ApiSettings) -> None:
    with contextlib.ExitStack() as sockets:
        listener = sockets.enter_context(contextlib.closing(bind(settings)))
        internal = bind_internal(settings)
        if internal is not None:
            sockets.enter_context(contextlib.closing(internal))
        async with contextlib.AsyncExitStack() as running:
            async with contextlib.AsyncExitStack() as starting:
                for each in filter(None, (listener, internal)):
                    await starting.enter_async_context(answering_probes(each))
                api = await running.enter_async_context(create_app(settings))
            # No stream is served during a garbage collection. So objects that live as long as the
            # process are excluded, and a full one is rare: streams are in no cycles once they have
            # ended. With the default thresholds there are several while thousands of streams open.
            gc.collect()
            gc.freeze()
            gc.set_threshold(*_GC_THRESHOLDS)
            async with internal_server(api.internal, internal):
                await Server(api, settings).serve([listener])


def _serve_alone(settings: ApiSettings) -> int:
    # The event loop waits this long for the interpreter's lock while a thread computes.
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    return_freed_memory()
    reserve_descriptors(settings.max_streams + _OTHER_DESCRIPTORS)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(settings))
    except StartupError as error:
        return _refuse(error)
    return 0


def _serve_together(settings: ApiSettings) -> int:
    bind_internal(settings)  # refuses an internal port, which several processes cannot share
    # Reserves the port for the child processes, and fails at once if it is in use.
    with contextlib.closing(bind(settings, listens=False)) as reserved:
        settings = msgspec.structs.replace(settings, port=reserved.getsockname()[1])
        return Supervisor(settings.processes, lambda: _serve_alone(settings)).run()


def _refuse(error: StartupError) -> int:
    # The message may contain a NATS URL with a password.
    sys.stderr.write(f"tailrace-api: {redact_credentials(' '.join(str(error).split()))}\n")
    return 2


def main() -> int:
    """Serve until SIGTERM or SIGINT; return the exit code."""
    try:
        refuse_arguments(sys.argv[1:])
        settings = read_settings(ApiSettings)
        configure_logging(settings, "api")
        warn_of_service_links()
        _raise_file_limit()
        return _serve_alone(settings) if settings.processes == 1 else _serve_together(settings)
    except StartupError as error:
        return _refuse(error)


def _raise_file_limit() -> None:
    # Each stream is an open file. The usual limit of 1,024 exists for programs that use select.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    sys.exit(main())
