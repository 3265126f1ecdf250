"""Mercure and Centrifugo, which Go builds into the folder ``.bench`` when they are needed first.

Mercure's library has a hub and no server, so `benchmarks/mercure` is a program around it.
"""

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

_BENCHMARKS: Final = Path(__file__).parent
_BIN: Final = _BENCHMARKS.parent / ".bench" / "go"
_CENTRIFUGO: Final = "github.com/centrifugal/centrifugo/v6@v6.9.1"


@functools.cache
def built(name: str) -> Path | None:
    """Return the path of a program; None if it cannot be built, for example without Go.

    The first call may take minutes.
    """
    program = _BIN / name
    if program.exists():
        return program
    go = shutil.which("go")
    if go is None:
        return None
    sys.stderr.write(f"building {name} with Go, once\n")
    commands = {
        "centrifugo": [go, "install", _CENTRIFUGO],
        "mercure": [go, "build", "-o", str(program), "."],
    }
    _BIN.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        commands[name],
        cwd=_BENCHMARKS / "mercure",
        env={**os.environ, "GOBIN": str(_BIN)},
        check=False,  # the report says which servers are missing
    )
    return program if program.exists() else None
