"""Read settings from the environment, and describe their types and ranges.

A variable with the prefix ``TAILRACE_`` that no service knows stops the start, because a typo must
not silently select a default.
"""

import difflib
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar, get_args, get_type_hints

import msgspec
import structlog

from tailrace_shared.duration import Duration
from tailrace_shared.errors import SettingsError
from tailrace_shared.settings import POSITIVE, PREFIX, SECRET_PREFIX, known_variables, variable

_log = structlog.get_logger(__name__)

S = TypeVar("S", bound=msgspec.Struct)

# Kubernetes sets these for every Service of the namespace, and compose for links. A Service named
# `tailrace` or `tailrace-api` makes names that look like settings.
_SERVICE_LINK_NAME: Final = re.compile(
    r"TAILRACE_(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)
_SERVICE_LINK_VALUE: Final = re.compile(r"(tcp|udp|sctp)://\S+:\d+")


def read_settings(struct: type[S], environment: Mapping[str, str] = os.environ) -> S:
    """Read one service's settings.

    Raises:
        SettingsError: a variable is unknown or has an invalid value; the message names it.
    """
    known = known_variables()
    links = service_links(environment)
    environment = {name: value for name, value in environment.items() if name not in links}
    for name in sorted(environment):
        if name.startswith(PREFIX) and name not in known and not _names_secret(name, known):
            raise SettingsError(
                f"unknown setting {name}{_hint(name, known)} (docs/configuration.md lists all)"
            )
    values: dict[str, Any] = {}
    for field, annotation in get_type_hints(struct, include_extras=True).items():
        text = environment.get(variable(field))
        if text is not None:
            values[field] = _convert(variable(field), text, annotation)
    return struct(**values)


def refuse_arguments(arguments: Sequence[str]) -> None:
    """Check that a service was started without arguments.

    Raises:
        SettingsError: there is one, for example the name of a command of ``tailrace``.
    """
    if arguments:
        raise SettingsError(
            f"unexpected argument {arguments[0]!r}: settings are environment variables "
            "(docs/configuration.md lists all), and commands belong to tailrace"
        )


def service_links(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return the variables with the prefix that describe Kubernetes Services; they are ignored."""
    known = known_variables()
    return sorted(
        name
        for name, value in environment.items()
        if name.startswith(PREFIX)
        and (
            _SERVICE_LINK_VALUE.fullmatch(value)
            or (name not in known and _SERVICE_LINK_NAME.fullmatch(name))
        )
    )


def warn_of_service_links() -> None:
    """Log a warning if the environment has variables that describe Kubernetes Services."""
    if links := service_links():
        _log.warning(
            "settings: ignored variables of Kubernetes Services",
            names=links,
            fix="set enableServiceLinks: false",
        )


def _names_secret(name: str, known: set[str]) -> bool:
    # TAILRACE_SECRET_DIR is most likely a misspelled TAILRACE_SECRETS_DIR.
    meant = name.replace(SECRET_PREFIX, f"{SECRET_PREFIX[:-1]}S_", 1)
    return name.startswith(SECRET_PREFIX) and meant not in known


def _hint(name: str, known: set[str]) -> str:
    if (bare := name.removeprefix(PREFIX)) in known:
        return f", did you mean {bare}?"
    # Compare without the prefix, which would make any two names similar.
    by_rest = {other.removeprefix(PREFIX): other for other in sorted(known)}
    nearest = difflib.get_close_matches(name.removeprefix(PREFIX), by_rest, n=1)
    return f", did you mean {by_rest[nearest[0]]}?" if nearest else ""


def _convert(name: str, text: str, annotation: Any) -> Any:
    try:
        value = msgspec.convert(text, annotation, strict=False, dec_hook=_decode_duration)
    except (msgspec.ValidationError, ValueError) as error:
        raise SettingsError(f"{name}={text!r}: {_rule(annotation) or error}") from None
    if not value and get_args(annotation)[1].extra == POSITIVE:
        raise SettingsError(f"{name}={text!r}: must be greater than zero")
    return value


def _rule(annotation: Any) -> str:
    """Describe the valid values where msgspec would use Python's names; otherwise empty."""
    base, meta = get_args(annotation)
    if base is bool or get_args(base):
        return f"must be {type_name(annotation)}"
    if base is not int:
        return ""
    return f"must be an integer{range_text(meta)}"


def range_text(meta: msgspec.Meta) -> str:
    """Describe the range of a number; empty if it is unlimited."""
    match meta.ge, meta.le:
        case None, None:
            return ""
        case least, None:
            return f" from {size_text(least)}"
        case least, most:
            return f" from {least} to {most}"


def size_text(value: Any) -> str:
    """Format a number, in KiB or MiB if it is a multiple of one."""
    for unit, size in (("MiB", 1024**2), ("KiB", 1024)):
        if value >= size and value % size == 0 and value >= 64 * 1024:
            return f"{value // size} {unit}"
    return str(value)


def _decode_duration(wanted: type, value: Any) -> Any:
    if wanted is Duration:
        return Duration.parse(value)
    raise NotImplementedError(wanted)


def type_name(annotation: Any) -> str:
    """Return the name of a setting's type on the configuration page."""
    base = get_args(annotation)[0]
    if choices := [str(choice) for choice in get_args(base)]:
        *others, last = choices
        return f"{', '.join(others)} or {last}"
    return {bool: "true or false", int: "integer", str: "text", Duration: "duration"}[base]
