"""Identifiers: what may become a subject token, and how new ones are made."""

import re
from typing import Final

import uuid_utils

from tailrace_shared.errors import InvalidIdError

ID_PATTERN: Final = r"^[A-Za-z0-9_-]{1,64}$"
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NODE_TYPE = re.compile(r"(?=.{1,64}\Z)[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_PROCEDURE = re.compile(r"(?=.{1,128}\Z)[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")


def is_valid_id(value: str) -> bool:
    """Tell whether ``value`` may be used as a tenant, workflow, node or execution id."""
    return _ID.fullmatch(value) is not None


def is_valid_node_type(value: str) -> bool:
    """Tell whether ``value`` names a node type: ids joined by dots, 64 characters at most."""
    return _NODE_TYPE.fullmatch(value) is not None


def is_valid_procedure(value: str) -> bool:
    """Tell whether ``value`` names a trigger: ids joined by dots, 128 characters at most."""
    return _PROCEDURE.fullmatch(value) is not None


def check_id(value: str, what: str) -> str:
    """Return ``value`` if it is a legal id.

    A dot, a wildcard or a space would address other subjects than the caller's own, so this
    check stands wherever a string from outside comes near a subject.

    Raises:
        InvalidIdError: with a sentence that names ``what`` and the rule.
    """
    if not is_valid_id(value):
        raise InvalidIdError(
            f"{what} {value[:80]!r} is not an id: use 1 to 64 letters, digits, '_' or '-'"
        )
    return value


def new_execution_id() -> str:
    """Return a UUIDv7 (RFC 9562), so that execution ids sort by creation time."""
    return str(uuid_utils.uuid7())


def new_token() -> str:
    """Return 16 random hex digits, for commit and writer ids."""
    return uuid_utils.uuid4().hex[:16]
