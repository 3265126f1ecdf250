"""A replica that gathers what NATS delivers sends all of it, in order."""

import nats

from harness.generators.hand_written_log import HandWrittenLog
from harness.nats.server import NatsServer
from harness.processes.in_process_api import api_in_process
from harness.processes.polling import until
from harness.sse.client import follow, places

_STEPS = 20


async def test_gathered_commits_are_sent_complete_and_in_order(nats_server: NatsServer) -> None:
    """Also after NATS has restarted."""
    client = await nats.connect(nats_server.url, reconnect_time_wait=0.05)

    async def connected() -> bool:
        return client.is_connected

    async with api_in_process(nats_server.url, delivery_interval=0.2) as api:
        log = HandWrittenLog(client)
        await log.begin()
        async with follow(api.port, log.execution) as run:
            received = await run.take(1 + len(log.written))
            nats_server.stop()
            nats_server.start()
            await until(connected)
            for number in range(_STEPS):
                await log.step(f"n{number}")
            await log.complete()
            received += await run.all()
            assert places(received[1:]) == log.written
    await client.close()
