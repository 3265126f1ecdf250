"""A replica of the API that dies in the middle of a trigger's delivery."""

import asyncio
import contextlib
from functools import partial
from pathlib import Path
from typing import Final

import httpx

from harness.generators.workflows import definition
from harness.processes.api_process import ApiProcess
from harness.processes.installation import TENANT, Installation
from harness.processes.polling import until
from tailrace_shared.execution.events import StepCompleted
from tailrace_shared.nats.jobs import TRIGGERS_QUEUE

_RUNS: Final = 200
_PROCEDURE: Final = "order.paid"
_PAUSE_S: Final = 0.1


async def test_workers_complete_a_delivery_whose_sender_was_killed(
    site: Installation, tmp_path: Path
) -> None:
    """The trigger was stored, so each run that waits for it gets it, without another request."""
    site.worker()
    wait = {"type": "await", "with": {"triggers": [_PROCEDURE]}}
    stored = await site.store(definition({"wait": wait}))
    runs = [await site.start(stored) for _ in range(_RUNS)]
    await until(partial(_all_wait, site))
    api = ApiProcess(
        site.nats.url, tmp_path, prefix=site.subjects.prefix, nats_replicas=str(site.nats.replicas)
    )
    begun = asyncio.Event()

    async def begins(_message: object) -> None:
        begun.set()

    # The sender publishes the job of a worker that replaces it, and then resolves the first wait.
    job = site.subjects.delayed(TRIGGERS_QUEUE)
    subscription = await site.jetstream.client.subscribe(job, cb=begins)
    with api:
        sending = asyncio.create_task(_send(api.url, begun))
        await begun.wait()
        api.kill()
        await sending
    await subscription.unsubscribe()
    for run in runs:
        events = await site.finished(run)
        assert [type(event) for event in events].count(StepCompleted) == 1


async def _all_wait(site: Installation) -> bool:
    """Tell whether all runs are in the index of waiting steps."""
    return len(await site.waiting.pointers(TENANT, _PROCEDURE)) == _RUNS


async def _send(url: str, begun: asyncio.Event) -> None:
    """Send the trigger until it is taken; a busy machine may refuse it."""
    async with httpx.AsyncClient(base_url=url, timeout=60) as http:
        while not begun.is_set():
            with contextlib.suppress(httpx.TransportError):  # killed before it answered
                await http.post(f"/api/v1/triggers/{_PROCEDURE}", json={})
            await asyncio.sleep(_PAUSE_S)
