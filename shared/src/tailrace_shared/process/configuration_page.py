"""Generate docs/configuration.md from the settings structs.

``python -m tailrace_shared.process.configuration_page > docs/configuration.md``
"""

import sys
from collections.abc import Iterator
from typing import Any, Final, get_args, get_type_hints

import msgspec

from tailrace_shared.duration import Duration
from tailrace_shared.process.settings_reader import range_text, size_text, type_name
from tailrace_shared.settings import (
    SERVICES,
    ApiSettings,
    ClientSettings,
    CommonSettings,
    WorkerSettings,
    variable,
)

_READERS: Final = {ApiSettings: "API", WorkerSettings: "worker", ClientSettings: "`tailrace`"}
_SECTIONS: Final = (
    ("Every service", CommonSettings),
    ("The API", ApiSettings),
    ("The worker", WorkerSettings),
    ("The `tailrace` command", ClientSettings),
)
_HEAD: Final = """\
# Configuration

Every setting is an environment variable with a default. A process does not start if a variable
that begins with `TAILRACE_` is unknown, or if a value is invalid; the error message names the
variable. Durations are a number and a unit: `250ms`, `30s`, `5m`, `24h`, `7d`.

This page is generated from the settings structs; `just fmt` regenerates it.
"""


def page() -> str:
    return "\n".join([_HEAD, *_sections()])


def _sections() -> Iterator[str]:
    listed: set[str] = set()
    for title, struct in _SECTIONS:
        yield f"## {title}\n"
        yield "| Variable | Type | Default | Description | Used by |"
        yield "|---|---|---|---|---|"
        hints = get_type_hints(struct, include_extras=True)
        for field in msgspec.structs.fields(struct):
            if field.name not in listed:
                yield _row(field, hints[field.name])
                listed.add(field.name)
        yield ""


def _row(field: msgspec.structs.FieldInfo, annotation: Any) -> str:
    meta = get_args(annotation)[1]
    readers = [_READERS[struct] for struct in SERVICES if field.name in struct.__struct_fields__]
    cells = (
        f"`{variable(field.name)}`",
        type_name(annotation) + range_text(meta),
        _default(field.default),
        meta.description,
        ", ".join(readers),
    )
    return f"| {' | '.join(cells)} |"


def _default(value: Any) -> str:
    if isinstance(value, bool):
        return "`true`" if value else "`false`"
    if isinstance(value, Duration):
        return f"`{value}`"
    if isinstance(value, int):
        readable = size_text(value)
        return f"`{value}`" if readable == str(value) else f"`{value}` ({readable})"
    return f"`{value}`" if value else "empty"


if __name__ == "__main__":
    sys.stdout.write(page())
