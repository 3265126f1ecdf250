"""``tailrace stats``: print the statistics of a workflow."""

from collections.abc import Mapping
from typing import Any

import click

from tailrace.client import Client
from tailrace.commands.client_command import client_command, json_option, print_json
from tailrace.commands.completion import complete_workflows
from tailrace.view.board import seconds_text


@click.command
@click.argument("workflow", shell_complete=complete_workflows)
@json_option
@client_command
def stats(client: Client, workflow: str, as_json: bool) -> None:
    """Print how the runs of WORKFLOW went: counts and durations."""
    document = client.stats(workflow)
    if as_json:
        print_json(document)
        return
    for name, key in (("in all", "ended"), ("last hour", "last_hour")):
        counts = ", ".join(f"{count} {status}" for status, count in document[key].items())
        click.echo(f"{name:<10} {counts}")
    click.echo(f"{'active':<10} {document['active_runs']}")
    click.echo(f"{'runs':<10} {_latency(document['run_latency'])}")
    click.echo(f"{'steps':<10} {_latency(document['step_latency'])}")


def _latency(latency: Mapping[str, Any]) -> str:
    shown = ((name, latency.get(f"{name}_ms")) for name in ("p50", "p95", "p99"))
    known = [f"{name} {seconds_text(value / 1000)}" for name, value in shown if value is not None]
    return ", ".join(known) or "no durations yet"
