"""Read settings from the environment, and name their types and ranges for people."""

import difflib
import os
from collections.abc import Mapping
from typing import Any, TypeVar, get_args, get_type_hints

import msgspec

from tailrace_shared.duration import Duration
from tailrace_shared.errors import SettingsError
from tailrace_shared.settings import POSITIVE, PREFIX, SECRET_PREFIX, known_variables, variable

S = TypeVar("S", bound=msgspec.Struct)


def read_settings(struct: type[S], environment: Mapping[str, str] = os.environ) -> S:
    """Read one service's settings.

    Raises:
        SettingsError: naming the variable that is unknown or ill-typed, and what it takes.
    """
    known = known_variables()
    for name in sorted(environment):
        if name.startswith(PREFIX) and name not in known and not _is_secret(name, known):
            raise SettingsError(
                f"unknown setting {name}{_nearest(name, known)} (docs/configuration.md lists all)"
            )
    values: dict[str, Any] = {}
    for field, annotation in get_type_hints(struct, include_extras=True).items():
        text = environment.get(variable(field))
        if text is not None:
            values[field] = _convert(variable(field), text, annotation)
    return struct(**values)


def _is_secret(name: str, known: set[str]) -> bool:
    # TAILRACE_SECRET_DIR is most likely a setting that lacks its S.
    meant = name.replace(SECRET_PREFIX, f"{SECRET_PREFIX[:-1]}S_", 1)
    return name.startswith(SECRET_PREFIX) and meant not in known


def _nearest(name: str, known: set[str]) -> str:
    if (bare := name.removeprefix(PREFIX)) in known:
        return f", did you mean {bare}?"
    # Compared without the prefix, which would make any two names alike.
    by_rest = {other.removeprefix(PREFIX): other for other in sorted(known)}
    nearest = difflib.get_close_matches(name.removeprefix(PREFIX), by_rest, n=1)
    return f", did you mean {by_rest[nearest[0]]}?" if nearest else ""


def _convert(name: str, text: str, annotation: Any) -> Any:
    try:
        value = msgspec.convert(text, annotation, strict=False, dec_hook=_decode_duration)
    except (msgspec.ValidationError, ValueError) as error:
        raise SettingsError(f"{name}={text!r}: {_rule(annotation) or error}") from None
    if not value and get_args(annotation)[1].extra == POSITIVE:
        raise SettingsError(f"{name}={text!r}: must be longer than nothing")
    return value


def _rule(annotation: Any) -> str:
    """Return what a value must be, where msgspec would say it in Python's words; else nothing."""
    base, meta = get_args(annotation)
    if base is bool or get_args(base):
        return f"must be {type_name(annotation)}"
    if base is not int:
        return ""
    return f"must be an integer{range_text(meta)}"


def range_text(meta: msgspec.Meta) -> str:
    """Return the words that tell a number's range; none if it has none."""
    match meta.ge, meta.le:
        case None, None:
            return ""
        case least, None:
            return f" from {size_text(least)}"
        case least, most:
            return f" from {least} to {most}"


def size_text(value: Any) -> str:
    """Return a number with the unit of sizes, where it is a round one."""
    for unit, size in (("MiB", 1024**2), ("KiB", 1024)):
        if value >= size and value % size == 0 and value >= 64 * 1024:
            return f"{value // size} {unit}"
    return str(value)


def _decode_duration(wanted: type, value: Any) -> Any:
    if wanted is Duration:
        return Duration.parse(value)
    raise NotImplementedError(wanted)


def type_name(annotation: Any) -> str:
    """Return how a setting's type is called on the configuration page."""
    base = get_args(annotation)[0]
    if choices := [str(choice) for choice in get_args(base)]:
        return " or ".join(choices)
    return {bool: "true or false", int: "integer", str: "text", Duration: "duration"}[base]
