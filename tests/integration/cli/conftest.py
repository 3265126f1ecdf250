"""Fixtures of the command's tests."""

import os
from pathlib import Path

import pytest


@pytest.fixture
def stand_ins(tmp_path: Path) -> dict[str, str]:
    """An environment in which both services are stand-ins."""
    folder = tmp_path / "stand-ins"
    folder.mkdir()
    for service in ("tailrace_api", "tailrace_worker"):
        (folder / f"{service}.py").write_text(f"import stand_in; stand_in.main({service!r})\n")
    paths = [str(folder), str(Path(__file__).parent)]
    return {"PYTHONPATH": os.pathsep.join(paths)}
