"""Check the parameters of ``http`` nodes, when a definition is stored and before a request.

Each function yields the places in a value, as paths, at which it cannot be sent, and the reasons.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

Path = tuple[str | int, ...]
Problem = tuple[Path, str]

# RFC 9110, sections 5.1 and 5.5.
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE: Final = re.compile(r"[\t\x20-\x7e]*")
_STATUSES: Final = range(100, 600)


def header_problems(value: Any) -> Iterator[Problem]:
    """Check headers: an object of scalar values, of which null is left out."""
    if not isinstance(value, dict):
        yield (), "must be an object"
        return
    for name, each in value.items():
        if not _HEADER_NAME.fullmatch(name):
            yield (name,), "is not the name of a header"
        elif isinstance(each, dict | list):
            yield (name,), "must be a text, number, boolean or null"
        elif isinstance(each, str) and not _has_expression(each) and not _is_header_value(each):
            yield (name,), "must consist of printable ASCII characters"


def query_problems(value: Any) -> Iterator[Problem]:
    """Check a query: an object of scalar values, of which null is left out, or lists of them."""
    if not isinstance(value, dict):
        yield (), "must be an object"
        return
    for name, each in value.items():
        if isinstance(each, dict):
            yield (name,), "must be a text, number, boolean, null or a list of them"
        elif isinstance(each, list):
            for index, item in enumerate(each):
                if isinstance(item, dict | list):
                    yield (name, index), "must be a text, number, boolean or null"


def status_problems(value: Any) -> Iterator[Problem]:
    """Check expected statuses: one, or a list of them."""
    for path, each in (
        [((index,), item) for index, item in enumerate(value)]
        if isinstance(value, list)
        else [((), value)]
    ):
        if isinstance(each, str) and _has_expression(each):
            continue
        if isinstance(each, bool) or not isinstance(each, int | float) or each not in _STATUSES:
            yield path, "must be an HTTP status, a number from 100 to 599, or a list of them"


def _is_header_value(value: str) -> bool:
    return _HEADER_VALUE.fullmatch(value) is not None


def _has_expression(value: str) -> bool:
    return "${" in value
