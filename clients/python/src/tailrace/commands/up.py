"""``tailrace up``: run all services on this machine."""

import asyncio
from pathlib import Path

import click

from tailrace.local.system import Options, run


@click.command
@click.option(
    "--host",
    envvar="TAILRACE_HOST",
    default="127.0.0.1",
    show_default=True,
    help="Address the API listens on.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    envvar="TAILRACE_PORT",
    default=8080,
    show_default=True,
    help="Port of the API; 0 takes any free one.",
)
@click.option(
    "--api-replicas",
    metavar="N",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="API processes, on consecutive ports from --port.",
)
@click.option(
    "--workers",
    metavar="N",
    type=click.IntRange(1, 256),
    default=1,
    show_default=True,
    help="Worker processes.",
)
@click.option(
    "--data-dir",
    metavar="DIR",
    type=click.Path(path_type=Path),
    default=Path(".tailrace"),
    show_default=True,
    help="Folder for the data of the embedded NATS.",
)
@click.option("--nats", metavar="URL", help="Use this NATS instead of the embedded one.")
@click.option(
    "--nats-port",
    metavar="P",
    type=click.IntRange(0, 65535),
    help="Port of the embedded NATS; 0 takes any free one. [default: 4222, or any if it is taken]",
)
@click.option("--demo", is_flag=True, help="Install the examples.")
@click.option(
    "--reload", is_flag=True, help="Restart workers when a Python file in this folder changes."
)
def up(  # noqa: PLR0913, PLR0917 - one parameter per option
    host: str,
    port: int,
    api_replicas: int,
    workers: int,
    data_dir: Path,
    nats: str | None,
    nats_port: int | None,
    demo: bool,
    reload: bool,
) -> None:
    """Start NATS, the API and workers on this machine.

    Prints `ready URL` when runs can be started. Ctrl-C or SIGTERM stops everything within ten
    seconds and loses nothing; a second one stops it at once.
    """
    asyncio.run(
        run(
            Options(
                host=host,
                port=port,
                api_replicas=api_replicas,
                workers=workers,
                data_dir=data_dir,
                nats=nats,
                nats_port=nats_port,
                demo=demo,
                reload=reload,
            )
        )
    )
