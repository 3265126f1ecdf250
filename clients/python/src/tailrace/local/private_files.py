"""Files of the data folder that only their owner may read."""

import os
import secrets
from pathlib import Path
from typing import Final

_MODE: Final = 0o600
_TOKEN_BYTES: Final = 32


def write_private(path: Path, text: str) -> None:
    """Replace a file by one that only its owner may read."""
    temporary = path.with_name(f"{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    temporary.replace(path)


def token_of(path: Path) -> str:
    """Return the token in a file; create the file with a random token if there is none."""
    if path.exists():
        path.chmod(_MODE)
        if token := path.read_text("utf-8").strip():
            return token
    token = secrets.token_urlsafe(_TOKEN_BYTES)
    write_private(path, f"{token}\n")
    return token
