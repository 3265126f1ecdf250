"""``tailrace backup`` and ``tailrace restore``."""

import click

from tailrace.commands.operator_command import run_operator_command


@click.command
@click.argument("path")
@click.option(
    "--recipient",
    "recipients",
    multiple=True,
    required=True,
    help="Public key of a reader (age1…), as age-keygen prints it; may be repeated.",
)
@click.option("--keep", type=int, help="Delete all but so many of the newest in the folder.")
def backup(path: str, recipients: tuple[str, ...], keep: int | None) -> None:
    """Write a backup of the streams and buckets in NATS to an encrypted file.

    PATH is a file, or a folder in which the file is named after the time. Services may run.
    """
    options = [option for each in recipients for option in ("--recipient", each)]
    run_operator_command("backup", path, *options, *(["--keep", str(keep)] if keep else []))


@click.command
@click.argument("path")
@click.option("--identity-file", required=True, help="File with the secret key, of age-keygen.")
@click.option("--replace", is_flag=True, help="Delete the streams and buckets that exist.")
@click.option("--verify-only", is_flag=True, help="Read the whole file, and restore nothing.")
@click.option("--skip-sequences", type=int, help="More than the commits since the backup.")
def restore(
    path: str,
    identity_file: str,
    replace: bool,
    verify_only: bool,
    skip_sequences: int | None,
) -> None:
    """Restore a backup. All services must be stopped.

    Clients go on after their last event id. Those that had events from after the backup get a
    stream:reset. Executions that had not ended go on from the state of the backup.
    """
    flags = [("--replace", replace), ("--verify-only", verify_only)]
    skip = [] if skip_sequences is None else ["--skip-sequences", str(skip_sequences)]
    chosen = [name for name, is_set in flags if is_set]
    run_operator_command("restore", path, "--identity-file", identity_file, *chosen, *skip)
