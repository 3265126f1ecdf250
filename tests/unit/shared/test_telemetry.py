"""Log lines of any exception are finite."""

import contextlib
import json
from typing import Any

import pytest

from tailrace_shared.process.telemetry import _render_traceback


def circle() -> BaseException:
    """Return an exception that is the cause of its cause."""
    error, other = ValueError("a"), KeyError("b")
    error.__cause__, other.__context__ = other, error
    return error


def chain() -> BaseException:
    """Return an exception with a thousand causes."""
    error: BaseException = ValueError("innermost")
    for _ in range(1000):
        outer = ValueError("outer")
        outer.__cause__ = error
        error = outer
    return error


@pytest.mark.parametrize("make", [circle, chain])
@pytest.mark.parametrize("form", ["instance", "tuple", "current"])
def test_causes_without_end_are_a_bounded_text(make: Any, form: str):
    """Rendered as fields, they would stop the event loop."""
    error = make()
    given = {"instance": error, "tuple": (type(error), error, None), "current": True}[form]
    event: Any = {"event": "failed", "exc_info": given}
    with contextlib.suppress(Exception):
        try:
            raise error
        finally:
            event = _render_traceback(None, "error", event)
    assert event["event"] == "failed"
    assert "ValueError" in event["exception"]
    assert len(json.dumps(event)) < 20_000


def test_an_ordinary_exception_is_rendered_as_fields():
    """Log processors search them."""
    event = _render_traceback(None, "error", {"exc_info": ValueError("a")})
    assert event["exception"][0]["exc_type"] == "ValueError"
    assert _render_traceback(None, "info", {"event": "ready"}) == {"event": "ready"}
