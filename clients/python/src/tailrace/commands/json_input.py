"""A parameter type for JSON on the command line."""

import sys
from pathlib import Path
from typing import Any

import click

from tailrace.strict_json import NotJsonError, parse_json


class JsonInput(click.ParamType[Any]):
    """JSON on the command line, or ``@file`` (``@-`` for stdin)."""

    name = "JSON|@file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse the value, or the file it names."""
        text = str(value)
        try:
            parsed = parse_json(_read(text[1:]).decode() if text.startswith("@") else text)
        except OSError as error:
            self.fail(f"{text[1:]}: {error.strerror}", param, ctx)
        except UnicodeDecodeError:
            self.fail(f"{text[1:]}: not UTF-8 text", param, ctx)
        except NotJsonError as error:
            place = f" at {error.place[1:]}" if error.place else ""
            self.fail(f"not JSON: {error}{place}", param, ctx)
        if parsed is None:
            # The API would take null as if the option were missing.
            self.fail("null is not a value here; leave the option out", param, ctx)
        return parsed


def _read(name: str) -> bytes:
    return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
