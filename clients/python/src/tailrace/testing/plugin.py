"""Fixtures for pytest, which finds them by itself once the package is installed."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

_READY: Final = re.compile(r"^ready (http\S+)$")
_STOP_S: Final = 30.0


@pytest.fixture
def tailrace_run() -> Callable[..., Any]:
    """Return :func:`tailrace.testing.run`, which runs a workflow in-process."""
    # Imported on use: most tests of a project do not need the engine.
    from tailrace.testing import run  # noqa: PLC0415

    return run


@pytest.fixture(scope="session")
def tailrace_up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run ``tailrace up`` on free ports for the session; the URL of its API.

    The node functions are those of ``TAILRACE_NODES``.
    """
    folder = tmp_path_factory.mktemp("tailrace")
    command = [
        *(sys.executable, "-m", "tailrace", "up", "--port", "0"),
        *("--nats-port", "0", "--data-dir", str(folder)),
    ]
    log = folder / "up.log"
    with log.open("w") as errors:
        process = subprocess.Popen(  # noqa: S603 - our own module
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env=os.environ.copy()
        )
    try:
        yield _ready_url(process, log)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _ready_url(process: "subprocess.Popen[str]", log: Path) -> str:
    lines = []
    for line in process.stdout or ():
        lines.append(line)
        if found := _READY.match(line.strip()):
            return found[1]
    raise RuntimeError("tailrace up did not start:\n" + "".join(lines) + log.read_text())
