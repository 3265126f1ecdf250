"""``tailrace export``: write workflows as YAML or as Python."""

from pathlib import Path
from typing import Any

import click
import yaml

from tailrace.definition_files import read_definitions


@click.command
@click.argument("file", metavar="F", type=click.Path(path_type=Path))
@click.option("--python", "as_python", is_flag=True, help="Write Python instead of YAML.")
def export(file: Path, as_python: bool) -> None:
    """Write the workflows of a file as YAML, or with --python as Python.

    F is a Python file with workflows, or a definition in YAML or JSON.
    """
    definitions = [found.definition for found in read_definitions([file])]
    if as_python:
        # Imported on use: only this command needs the builder.
        from tailrace.workflow.loading import python_of  # noqa: PLC0415

        click.echo("\n\n".join(python_of(definition) for definition in definitions), nl=False)
    else:
        click.echo("---\n".join(map(_yaml, definitions)), nl=False)


def _yaml(definition: dict[str, Any]) -> str:
    text: str = yaml.safe_dump(definition, sort_keys=False, allow_unicode=True, width=100)
    return text
