"""``tailrace schema``: print the JSON Schema of definitions."""

import click
import msgspec

from tailrace.local.offline import run_offline


@click.command
def schema() -> None:
    """Print the JSON Schema of workflow definitions, for editors.

    It knows the parameters of the node types that are installed here. Save it as a file, and name
    the file in the first line of a definition: # yaml-language-server: $schema=workflow.json
    """
    click.echo(msgspec.json.format(msgspec.json.encode(run_offline("schema")), indent=2))
