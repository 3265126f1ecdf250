"""Fixtures of the tests of the ``tailrace`` command."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.processes.tailrace_command import TailraceCommand
from harness.processes.tailrace_up import TailraceUp


@pytest.fixture
def stand_ins(tmp_path: Path) -> dict[str, str]:
    """Return an environment that replaces both services by stand-ins."""
    folder = tmp_path / "stand-ins"
    folder.mkdir()
    for service in ("tailrace_api", "tailrace_worker"):
        (folder / f"{service}.py").write_text(f"import stand_in; stand_in.main({service!r})\n")
    paths = [str(folder), str(Path(__file__).parent)]
    return {"PYTHONPATH": os.pathsep.join(paths)}


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TailraceUp]:
    """Start `tailrace up --demo` with the real services, for tests that leave it running."""
    environment = {"TAILRACE_ACK_WAIT": "2s"}
    folder = tmp_path_factory.mktemp("system")
    with TailraceUp(folder, "--demo", "--workers", "2", environment=environment) as running:
        yield running.wait_ready()


@pytest.fixture
def tailrace(system: TailraceUp, tmp_path: Path) -> TailraceCommand:
    """Return the command, connected to the running system."""
    return TailraceCommand(system.url, tmp_path)
