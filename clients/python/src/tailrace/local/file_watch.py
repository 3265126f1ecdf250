"""Notice changed Python files, for ``tailrace up --reload``."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Final

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

# Editors write several times, and tools write several files.
_QUIET_S: Final = 0.3
_IGNORED: Final = frozenset({"__pycache__", "node_modules", "site-packages"})


class _Handler(FileSystemEventHandler):
    def __init__(self, folder: Path, changed: "asyncio.Queue[Path]") -> None:
        self._folder = folder
        self._changed = changed
        self._loop = asyncio.get_running_loop()

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Pass on what may change the code; reading a file does not."""
        if event.is_directory or event.event_type in {"opened", "closed_no_write"}:
            return
        for name in (event.src_path, event.dest_path):
            path = Path(str(name))
            if name and is_code(path, self._folder):
                self._loop.call_soon_threadsafe(self._changed.put_nowait, path)


async def changed_files(folder: Path) -> AsyncGenerator[Path, None]:
    """Yield a Python file in a folder whenever some have changed and none changes any more."""
    changed: asyncio.Queue[Path] = asyncio.Queue()
    observer = Observer()
    observer.schedule(_Handler(folder, changed), str(folder), recursive=True)
    observer.start()
    try:
        while True:
            path = await changed.get()
            await _quiet(changed)
            yield path.relative_to(folder)
    finally:
        observer.stop()


async def _quiet(changed: "asyncio.Queue[Path]") -> None:
    while True:
        try:
            await asyncio.wait_for(changed.get(), _QUIET_S)
        except TimeoutError:
            return


def is_code(path: Path, folder: Path) -> bool:
    """Return whether a file may be the code of a node."""
    if path.suffix != ".py" or not path.is_relative_to(folder):
        return False
    parts = path.relative_to(folder).parts[:-1]
    return not any(part.startswith(".") or part in _IGNORED for part in parts)
