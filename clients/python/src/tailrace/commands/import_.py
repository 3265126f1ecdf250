"""``tailrace import``: convert other workflow formats to definitions."""

import math
from pathlib import Path

import click

from tailrace.errors import TraceError
from tailrace.wfcommons import DEFINITION_BYTES, encode, import_trace


@click.group(name="import")
def import_() -> None:
    """Convert a workflow of another format to a definition on stdout."""


@import_.command
@click.argument("file", metavar="F", type=click.Path(path_type=Path))
@click.option(
    "--scale",
    metavar="S",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    help="Seconds of sleep per recorded second.",
)
def wfcommons(file: Path, scale: float) -> None:
    """Import a WfCommons trace (WfFormat 1.5): each task becomes a node that sleeps."""
    if not math.isfinite(scale):
        raise click.BadParameter(f"{scale} is not a finite number", param_hint="--scale")
    try:
        definition = import_trace(file.read_bytes(), file.stem, scale)
    except OSError as error:
        raise TraceError(f"{file}: {error.strerror}") from None
    except TraceError as error:
        raise TraceError(f"{file}: {error}") from None
    written = encode(definition)
    click.echo(written, nl=False)
    if len(written) > DEFINITION_BYTES:
        click.echo("tailrace: this definition is too large for the API (1 MiB)", err=True)
