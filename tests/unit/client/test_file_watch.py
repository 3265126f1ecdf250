"""Changed code, for `tailrace up --reload`."""

import asyncio
from pathlib import Path

import pytest

from tailrace.local.file_watch import changed_files, is_code


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nodes.py", True),
        ("package/nodes.py", True),
        ("flow.yaml", False),
        (".venv/lib/x.py", False),
        ("package/__pycache__/x.py", False),
        ("node_modules/x.py", False),
    ],
)
def test_only_the_code_of_the_project_counts(name: str, expected: bool):
    """Neither other files nor what is installed."""
    folder = Path("/a project")
    assert is_code(folder / name, folder) is expected
    assert not is_code(Path("/elsewhere/x.py"), folder)


async def test_several_writes_are_one_change(tmp_path: Path):
    """It is reported once the files are quiet."""
    changes = changed_files(tmp_path)
    first = asyncio.ensure_future(anext(changes))
    # Written again and again, because the watch begins in a thread of its own.
    async with asyncio.timeout(60):
        while not first.done():
            (tmp_path / "ignored.txt").write_text("x")
            (tmp_path / "nodes.py").write_text("x = 1")
            await asyncio.wait({first}, timeout=1.0)
    assert first.result() == Path("nodes.py")
    await changes.aclose()
