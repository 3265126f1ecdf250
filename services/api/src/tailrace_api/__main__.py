"""Run the API service: ``python -m tailrace_api``, or ``tailrace-api``."""

import asyncio
import contextlib
import sys

import uvloop

from tailrace_api.app import create_app
from tailrace_api.server import Server, bind
from tailrace_shared.errors import StartupError
from tailrace_shared.settings import ApiSettings, read_settings
from tailrace_shared.telemetry import configure_logging


async def _serve(settings: ApiSettings) -> None:
    with contextlib.closing(bind(settings)) as listener:
        async with create_app(settings) as api:
            await Server(api, settings).serve([listener])


def main() -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code."""
    try:
        settings = read_settings(ApiSettings)
        configure_logging(settings, "api")
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(settings))
    except StartupError as error:
        sys.stderr.write(f"tailrace-api: {' '.join(str(error).split())}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
