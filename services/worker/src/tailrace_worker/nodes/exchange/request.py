"""Check the parameters of a request before it has an effect, and write their values as texts."""

from collections.abc import Callable, Iterable
from typing import Any, Final

from tailrace_shared.json_encoding import NotJsonError, encode_json, json_text
from tailrace_shared.json_pointer import join_pointer
from tailrace_shared.workflow.http_values import (
    Problem,
    header_problems,
    query_problems,
    status_problems,
)
from tailrace_shared.workflow.node_types import SHIPPED
from tailrace_worker.nodes.node import NodeFailedError

_METHODS: Final = SHIPPED["http"].parameters["method"].choices


def method_of(value: Any) -> str:
    """Return the method in capitals."""
    method = value.upper() if isinstance(value, str) else value
    if method not in _METHODS:
        raise _refused("/method", f"must be one of {', '.join(_METHODS)}")
    return str(method)


def url_of(value: Any) -> str:
    if not isinstance(value, str):
        raise _refused("/url", "must be a text")
    return value


def headers_of(value: Any) -> dict[str, str]:
    """Return headers with names in lower case, without those that are null."""
    if value is None:
        return {}
    _check("/headers", header_problems, value)
    headers = {}
    for name, each in value.items():
        if each is not None:
            # A rendered text may contain what looks like an expression, so it is checked here.
            text = json_text(each)
            if not all(character == "\t" or " " <= character <= "~" for character in text):
                raise _refused(
                    join_pointer("/headers", name), "must consist of printable ASCII characters"
                )
            headers[name.lower()] = text
    return headers


def query_of(value: Any) -> dict[str, str | list[str]]:
    """Return the query, without values that are null."""
    if value is None:
        return {}
    _check("/query", query_problems, value)
    return {
        name: [json_text(item) for item in each if item is not None]
        if isinstance(each, list)
        else json_text(each)
        for name, each in value.items()
        if each is not None
    }


def statuses_of(value: Any) -> frozenset[int]:
    """Return the expected statuses; empty for the default."""
    if value is None:
        return frozenset()
    listed = value if isinstance(value, list) else [value]
    if any(isinstance(each, str) for each in listed):
        raise _refused("/expect_status", "must be a number or a list of numbers")
    _check("/expect_status", status_problems, value)
    return frozenset(map(int, listed))


def content_of(json: Any, body: Any) -> bytes | None:
    """Return the body of a request, which is given as JSON, as a text, or not at all."""
    if json is not None and body is not None:
        raise NodeFailedError("a request takes json or body, not both", retryable=False)
    if isinstance(body, dict | list):
        raise _refused("/body", "must be a text; use json to send JSON")
    if body is not None:
        return json_text(body).encode(errors="replace")
    if json is None:
        return None
    try:
        return encode_json(json)
    except NotJsonError as error:
        raise _refused("/json", str(error)) from None


def _check(pointer: str, problems_of: Callable[[Any], Iterable[Problem]], value: Any) -> None:
    for path, detail in problems_of(value):
        raise _refused(join_pointer(pointer, *path), detail)


def _refused(pointer: str, detail: str) -> NodeFailedError:
    return NodeFailedError(f"no request was sent: {pointer} {detail}", retryable=False)
