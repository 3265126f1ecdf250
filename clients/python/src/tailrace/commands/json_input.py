"""A parameter type for JSON on the command line."""

import sys
from pathlib import Path
from typing import Any

import click
import msgspec


class JsonInput(click.ParamType[Any]):
    """JSON on the command line, or ``@file`` (``@-`` for stdin)."""

    name = "JSON|@file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse the value, or the file it names."""
        text = str(value)
        try:
            return msgspec.json.decode(_read(text[1:]) if text.startswith("@") else text)
        except OSError as error:
            self.fail(f"{text[1:]}: {error.strerror}", param, ctx)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self.fail(f"not JSON: {error}", param, ctx)


def _read(name: str) -> bytes:
    return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
