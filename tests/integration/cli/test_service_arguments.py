"""A service takes no arguments: a command given to it by mistake does not start a second one."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("module", "program"),
    [("tailrace_api", "tailrace-api"), ("tailrace_worker", "tailrace-worker")],
)
def test_a_service_refuses_arguments(module: str, program: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module, "doctor"],
        capture_output=True,
        text=True,
        timeout=100,
        env={"PATH": "/usr/bin:/bin"},
        check=False,
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{program}: unexpected argument 'doctor': settings are environment")
