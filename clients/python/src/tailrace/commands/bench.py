"""``tailrace bench``: run a benchmark of the checkout in a separate interpreter."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import click

from tailrace.errors import TailraceError

_CHECKOUT: Final = (Path(__file__).parent / "../../../../..").resolve()
_BENCHMARKS: Final = (
    "broker",
    "engine",
    "eta",
    "fanout",
    "latency",
    "lists",
    "retention",
    "size",
    "topics",
)


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("name", type=click.Choice(_BENCHMARKS))
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def bench(name: str, options: tuple[str, ...]) -> None:
    """Run the benchmark NAME; OPTIONS are passed to it, for example --json or --help."""
    script = _CHECKOUT / "benchmarks" / f"{name}.py"
    if not script.is_file():
        raise TailraceError(
            "the benchmarks come with a clone of the repository, not with a package"
        )
    # Benchmarks use the tests' harness to start services.
    paths = os.pathsep.join([str(_CHECKOUT), str(_CHECKOUT / "tests")])
    environment = {**os.environ, "PYTHONPATH": paths}
    command = [sys.executable, str(script), *options]
    ended = subprocess.run(command, env=environment, check=False)  # noqa: S603 - our own script
    sys.exit(ended.returncode)
