"""Validate ids, and create new ones."""

import re
from typing import Final

import uuid_utils

from tailrace_shared.errors import InvalidIdError

ID_PATTERN: Final = r"^[A-Za-z0-9_-]{1,64}$"
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_UUID7 = re.compile(r"[0-9a-f]{12}7[0-9a-f]{19}")
_NODE_TYPE = re.compile(r"(?=.{1,64}\Z)[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_PROCEDURE = re.compile(r"(?=.{1,128}\Z)[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")


def is_valid_id(value: str) -> bool:
    return _ID.fullmatch(value) is not None


def is_valid_node_type(value: str) -> bool:
    """Tell whether ``value`` is a valid node type: ids joined by dots, at most 64 characters."""
    return _NODE_TYPE.fullmatch(value) is not None


def is_valid_procedure(value: str) -> bool:
    """Tell whether ``value`` is a valid procedure: ids joined by dots, at most 128 characters."""
    return _PROCEDURE.fullmatch(value) is not None


def check_id(value: str, what: str) -> str:
    """Return ``value`` if it is a valid id.

    A dot, a wildcard or a space would address subjects of other tenants, so every external string
    passes this check before it becomes part of a subject.

    Raises:
        InvalidIdError: the message names ``what`` and the rule.
    """
    if not is_valid_id(value):
        raise InvalidIdError(
            f"{what} {value[:80]!r} is not an id: use 1 to 64 letters, digits, '_' or '-'"
        )
    return value


def new_execution_id() -> str:
    """Return a UUIDv7 (RFC 9562); execution ids sort by creation time."""
    return str(uuid_utils.uuid7())


def creation_time(execution_id: str) -> float | None:
    """Return the time in an id of :func:`new_execution_id`, or None for any other id."""
    digits = execution_id.replace("-", "")
    if _UUID7.fullmatch(digits) is None:
        return None
    return int(digits[:12], 16) / 1000


def new_token() -> str:
    """Return 16 random hexadecimal digits for commit and writer ids."""
    return uuid_utils.uuid4().hex[:16]
