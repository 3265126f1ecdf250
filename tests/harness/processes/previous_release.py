"""The code of the release before this one, from the history of the repository."""

import io
import os
import subprocess
import tarfile
from pathlib import Path
from typing import Final

import pytest

_LAST_COMMIT: Final = "f7c381b"
"""The last commit of version 0.2.0."""
_CHECKOUT: Final = Path(__file__).parents[3]
_SOURCES: Final = ("shared/src", "services/api/src", "services/worker/src")


def unpack_previous_release(folder: Path) -> str:
    """Unpack the sources of version 0.2.0; return the PYTHONPATH with which its services run.

    It runs in the environment of this release, whose dependencies include its own.
    """
    command = ["git", "-C", str(_CHECKOUT), "archive", _LAST_COMMIT, *_SOURCES]
    archive = subprocess.run(command, capture_output=True, check=False)
    if archive.returncode:
        pytest.skip(
            f"the history of this clone lacks {_LAST_COMMIT} (version 0.2.0): git fetch --unshallow"
        )
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as sources:
        sources.extractall(folder, filter="data")
    return os.pathsep.join(str(folder / source) for source in _SOURCES)
