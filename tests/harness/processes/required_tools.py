"""Programs that some tests need and that Python packages do not install."""

import os
from typing import NoReturn

import pytest


def skip_or_fail(tool: str, remedy: str) -> NoReturn:
    """Skip the test because a tool is missing; in CI, fail it instead."""
    reason = f"{tool} is missing: {remedy}"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
