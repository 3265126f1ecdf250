"""The entry point of the ``tailrace`` command."""

from tailrace.cli import cli


def main() -> None:
    cli(prog_name="tailrace")


if __name__ == "__main__":
    main()
