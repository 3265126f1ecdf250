"""The chain as a DBOS workflow, run in the environment of the peers.

The arguments are a SQLite file and the value of SQLite's pragma ``synchronous``. Each line on stdin
is a request for executions of some length; the answer is the number of seconds they took.
"""

import asyncio
import json
import sys
import time
from typing import Any

import sqlalchemy
from dbos import DBOS


async def nothing() -> dict[str, Any]:
    """Do nothing."""
    return {}


def main() -> None:
    """Serve until stdin ends."""
    path, synchronous = sys.argv[1:]

    def connected(connection: Any, _record: Any) -> None:
        connection.execute(f"PRAGMA synchronous={synchronous}")

    sqlalchemy.event.listen(sqlalchemy.Engine, "connect", connected)
    DBOS(
        config={
            "name": "bench",
            "system_database_url": f"sqlite:///{path}",
            "run_admin_server": False,
            "log_level": "ERROR",
        }
    )
    step = DBOS.step()(nothing)

    async def chain(length: int) -> None:
        for _ in range(length):
            await step()

    workflow = DBOS.workflow()(chain)
    DBOS.launch()

    async def serve() -> None:
        for line in sys.stdin:  # blocking is fine: no workflow runs between requests
            order = json.loads(line)
            begun = time.perf_counter()
            await asyncio.gather(*(workflow(order["length"]) for _ in range(order["executions"])))
            sys.stdout.write(f"{time.perf_counter() - begun}\n")
            sys.stdout.flush()

    asyncio.run(serve())
    DBOS.destroy()


if __name__ == "__main__":
    main()
