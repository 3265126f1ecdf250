"""The code of the release before this one.

The archive in ``tests/e2e/upgrade`` holds the sources of its services, made by ``git archive`` of
commit f7c381b, the last of version 0.2.0. So the tests need no history: clones may be shallow.
"""

import os
import tarfile
from pathlib import Path
from typing import Final

_ARCHIVE: Final = Path(__file__).parents[2] / "e2e/upgrade/tailrace-0.2.0.tar.xz"
SOURCES: Final = ("shared/src", "services/api/src", "services/worker/src")
"""Where the packages are in the archive."""


def unpack_previous_release(folder: Path) -> str:
    """Unpack the sources of version 0.2.0; return the PYTHONPATH with which its services run.

    It runs in the environment of this release, whose dependencies include its own.
    """
    with tarfile.open(_ARCHIVE) as sources:
        sources.extractall(folder, filter="data")
    return os.pathsep.join(str(folder / source) for source in SOURCES)
