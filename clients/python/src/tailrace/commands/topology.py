"""``tailrace topology``: the streams and buckets in NATS."""

import click

from tailrace.commands.operator_command import run_operator_command
from tailrace.commands.suggestions import SuggestingGroup

_version_option = click.option(
    "--version", type=int, help="Topology version; 1 is that of Tailrace 0.2.  [default: newest]"
)


@click.group(cls=SuggestingGroup)
def topology() -> None:
    """Plan and apply changes of the streams and buckets in NATS.

    Talks to NATS at NATS_URL, with the settings of the services (TAILRACE_PREFIX,
    TAILRACE_NATS_REPLICAS).
    """


@topology.command
@_version_option
def plan(version: int | None) -> None:
    """Print what apply would change; exit with 1 if there is anything."""
    run_operator_command("topology", "plan", *_version(version))


@topology.command
@_version_option
def apply(version: int | None) -> None:
    """Create and update streams and buckets. A second call changes nothing."""
    run_operator_command("topology", "apply", *_version(version))


@topology.command
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def permissions(as_json: bool) -> None:
    """Print the least permissions in NATS of each service.

    Prints variables for the configuration of nats-server: API_PERMISSIONS, WORKER_PERMISSIONS and
    ADMIN_PERMISSIONS. Does not connect to NATS.
    """
    run_operator_command("topology", "permissions", *(["--json"] if as_json else []))


def _version(version: int | None) -> list[str]:
    return [] if version is None else ["--version", str(version)]
