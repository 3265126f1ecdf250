"""Programs and rights that some tests need and that Python packages do not bring.

CI installs all of them (`.ci/run`), so that no test is skipped there.
"""

import os
from typing import NoReturn

import pytest


def skip_or_fail(tool: str, remedy: str) -> NoReturn:
    """Skip the test because this machine lacks something; in CI, fail it instead.

    Args:
        tool: what is missing.
        remedy: how a developer gets it.
    """
    reason = f"{tool} is missing: {remedy}"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
