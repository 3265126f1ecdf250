"""A group of commands that answers a mistyped one with the nearest."""

import difflib

import click


class SuggestingGroup(click.Group):
    """A group that suggests a command for one that does not exist."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Suggest the most similar command for one that does not exist."""
        name, names = args[0] if args else "", self.list_commands(ctx)
        near = difflib.get_close_matches(name, names, n=1)
        if name and not name.startswith("-") and name not in names and near:
            ctx.fail(f"No such command {name!r}, did you mean {near[0]!r}?")
        return super().resolve_command(ctx, args)
