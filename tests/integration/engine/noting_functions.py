"""Makes a worker note each job that one of Dramatiq's threads takes; it is imported for its node.

The file is named by the environment variable JOBS_NOTED; a line is the id of an execution.
"""

import asyncio
import os
from pathlib import Path
from typing import Any

from tailrace_worker.engine.engine import Engine
from tailrace_worker.nodes import node

_advance = Engine.advance


def _note_and_advance(engine: Engine, tenant: str, execution: str, *more: Any) -> None:
    with Path(os.environ["JOBS_NOTED"]).open("a") as notes:
        notes.write(f"{execution}\n")
    _advance(engine, tenant, execution, *more)


Engine.advance = _note_and_advance  # type: ignore[method-assign,assignment]


@node("test.blocked")
async def blocked() -> None:
    """Never end."""
    await asyncio.Event().wait()
