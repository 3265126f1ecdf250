"""The formats of JSON Schema, checked in linear time and without optional packages.

The library checks some formats only if further packages are installed, so that a value would be
valid on one machine and not on another.
"""

import ipaddress
import re
from collections.abc import Callable
from datetime import date
from typing import Final

import jsonschema

from tailrace_shared.workflow.patterns import PatternError
from tailrace_shared.workflow.schemas.schema_validator import matches

_TIME = re.compile(
    r"([01][0-9]|2[0-3]):([0-5][0-9]):([0-5][0-9]|60)(?:\.[0-9]+)?"
    r"(?:[Zz]|([+-])([01][0-9]|2[0-3]):([0-5][0-9]))"
)
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_CLOCK: Final = r"T(?:[0-9]+H(?:[0-9]+M(?:[0-9]+S)?)?|[0-9]+M(?:[0-9]+S)?|[0-9]+S)"
_CALENDAR: Final = r"(?:[0-9]+Y(?:[0-9]+M(?:[0-9]+D)?)?|[0-9]+M(?:[0-9]+D)?|[0-9]+D)"
_DURATION = re.compile(rf"P(?:[0-9]+W|{_CALENDAR}(?:{_CLOCK})?|{_CLOCK})")
_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOSTNAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_MAX_HOSTNAME: Final = 253
_LOCAL_PART = re.compile(
    r"""[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"""
    r"""|"(?:[ !#-\[\]-~]|\\[ -~])*\""""
)
_UUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_POINTER = re.compile(r"(?:/(?:[^~/]|~[01])*)*")
_RELATIVE_POINTER = re.compile(r"(?:0|[1-9][0-9]*)(?:#|(?:/(?:[^~/]|~[01])*)*)")
# RFC 3986, and RFC 3987 with further characters.
_CHARACTER: Final = r"(?:[A-Za-z0-9._~!$&'()*+,;=:@{more}-]|%[0-9A-Fa-f]{{2}})"
_URI_REFERENCE: Final = (
    r"(?:(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*):)?"
    r"(?://(?P<authority>(?:{c}|[\[\]])*)(?:/{c}*)*|(?P<path>(?:{c}|/)*))"
    r"(?:\?(?:{c}|[/?])*)?(?:\#(?:{c}|[/?])*)?"
)
_MORE: Final = "\u00a0-\ud7ff\uf900-\ufdcf\ufdf0-\uffef\U00010000-\U000efffd"
_URI = re.compile(_URI_REFERENCE.format(c=_CHARACTER.format(more="")))
_IRI = re.compile(_URI_REFERENCE.format(c=_CHARACTER.format(more=_MORE)))
_AUTHORITY = re.compile(r"(?:[^@\[\]]*@)?(?:\[([^\[\]@]+)\]|[^:@\[\]]*)(?::[0-9]*)?")
_FUTURE_ADDRESS = re.compile(r"[vV][0-9A-Fa-f]+\.[A-Za-z0-9._~!$&'()*+,;=:-]+")


def _is_date(text: str) -> bool:
    if not _DATE.fullmatch(text):
        return False
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _is_time(text: str) -> bool:
    parts = _TIME.fullmatch(text)
    if parts is None or parts[3] != "60":
        return parts is not None
    # A leap second is the last second of a day in UTC.
    minutes = int(parts[1]) * 60 + int(parts[2])
    offset = int(parts[5] or 0) * 60 + int(parts[6] or 0)
    return (minutes - (-offset if parts[4] == "-" else offset)) % 1440 == 1439


def _is_date_time(text: str) -> bool:
    return text[10:11] in {"T", "t"} and _is_date(text[:10]) and _is_time(text[11:])


def _is_hostname(text: str) -> bool:
    return len(text) <= _MAX_HOSTNAME and bool(_HOSTNAME.fullmatch(text))


def _is_email(text: str) -> bool:
    local, at, domain = text.rpartition("@")
    if not at or not _LOCAL_PART.fullmatch(local):
        return False
    if domain.startswith("[") and domain.endswith("]"):
        address = domain[1:-1]
        return _is_ipv6(address[5:]) if address.startswith("IPv6:") else _is_ipv4(address)
    return _is_hostname(domain)


def _is_ipv4(text: str) -> bool:
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return text.isascii()


def _is_ipv6(text: str) -> bool:
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return text.isascii() and address.scope_id is None


def _is_reference(pattern: re.Pattern[str], text: str) -> bool:
    parts = pattern.fullmatch(text)
    if parts is None:
        return False
    if parts["authority"] is not None:
        authority = _AUTHORITY.fullmatch(parts["authority"])
        if authority is None:
            return False
        literal = authority[1]
        return literal is None or _is_ipv6(literal) or bool(_FUTURE_ADDRESS.fullmatch(literal))
    # Without a scheme, a colon in the first segment would be read as the end of one.
    return parts["scheme"] is not None or ":" not in parts["path"].partition("/")[0]


def _is_absolute(pattern: re.Pattern[str], text: str) -> bool:
    parts = pattern.fullmatch(text)
    return parts is not None and parts["scheme"] is not None and _is_reference(pattern, text)


def _is_pattern(text: str) -> bool:
    try:
        matches(text, "")
    except PatternError:
        return False
    return True


FORMATS: Final[dict[str, Callable[[str], bool]]] = {
    "date-time": _is_date_time,
    "date": _is_date,
    "time": _is_time,
    "duration": lambda text: bool(_DURATION.fullmatch(text)),
    "email": _is_email,
    "hostname": _is_hostname,
    "ipv4": _is_ipv4,
    "ipv6": _is_ipv6,
    "uri": lambda text: _is_absolute(_URI, text),
    "uri-reference": lambda text: _is_reference(_URI, text),
    "iri": lambda text: _is_absolute(_IRI, text),
    "iri-reference": lambda text: _is_reference(_IRI, text),
    "uuid": lambda text: bool(_UUID.fullmatch(text)),
    "json-pointer": lambda text: bool(_POINTER.fullmatch(text)),
    "relative-json-pointer": lambda text: bool(_RELATIVE_POINTER.fullmatch(text)),
    "regex": _is_pattern,
}
"""The formats that are enforced. A schema with any other is refused when it is stored."""


def _checker() -> jsonschema.FormatChecker:
    checker = jsonschema.FormatChecker(formats=())
    for name, accepts in FORMATS.items():
        checker.checkers[name] = (_for_text(accepts), ())
    return checker


def _for_text(accepts: Callable[[str], bool]) -> Callable[[object], bool]:
    return lambda value: not isinstance(value, str) or accepts(value)


CHECKER: Final = _checker()
