"""A job that failed for good, as a worker leaves it."""

import json

import nats

from harness.processes.tailrace_up import TailraceUp
from tailrace_shared.stores.dead_letters import dead_letter_headers


async def bury_job(system: TailraceUp, traceback: str) -> None:
    """Leave a dead letter in a running system."""
    token = (system.folder / "data" / "nats.token").read_text().strip()
    client = await nats.connect(f"nats://127.0.0.1:{system.nats_port}", token=token)
    headers = dead_letter_headers(
        {},
        queue="executions",
        subject="tr.jobs.executions",
        deliveries=5,
        reason="failed",
        error="ValueError: unknown execution 01a22a07-0000-7000-8000-000000000000",
        traceback=traceback,
    )
    job = {
        "actor_name": "advance",
        "message_id": "j-1",
        "args": [],
        "kwargs": {"tenant": "default"},
    }
    await client.jetstream().publish(
        "tr.dead.executions", json.dumps(job).encode(), headers=headers
    )
    await client.close()
