"""Timers: jobs that NATS delivers later, one timer and one watch for each execution."""

import asyncio
import time

from harness.nats.site import Site
from tailrace_shared.nats.jobs import EXECUTIONS_QUEUE
from tailrace_shared.nats.topology import JOBS
from tailrace_worker.engine.services.timers import Timers


async def test_a_watch_does_not_delay_a_timer(site: Site):
    """A displaced worker may set its watch after the other worker's timer."""
    timers = Timers(site.jetstream, site.subjects, time.time)
    await timers.advance_at("t", "e", time.time() + 1)
    await timers.watch_at("t", "e", time.time() + 3600)
    queue = {"last_by_subj": site.subjects.job(EXECUTIONS_QUEUE)}
    async with asyncio.timeout(60):
        while await site.jetstream.get_newest(site.subjects.stream(JOBS), queue) is None:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
