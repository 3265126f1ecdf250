"""What some tests need of the machine, and Python cannot install."""

import os
from typing import NoReturn

import pytest


def skip_or_fail(what: str, remedy: str) -> NoReturn:
    """Skip the test because ``what`` is not there; in CI, where it must be, fail."""
    reason = f"{what} is not there: {remedy}"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
