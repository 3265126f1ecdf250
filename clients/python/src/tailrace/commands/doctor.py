"""``tailrace doctor``: is this installation healthy?"""

import click

from tailrace.commands.operator_command import run_operator_command


@click.command
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(as_json: bool) -> None:
    """Check NATS, the topology, the services, clocks and overdue work.

    Prints one line per check and exits with 1 if one fails. Talks to NATS at NATS_URL, with the
    settings of the services.
    """
    run_operator_command("doctor", *(["--json"] if as_json else []))
