"""The log is replaced by a backup while clients stream from it."""

from dataclasses import replace

import nats

from harness.generators.hand_written_log import HandWrittenLog, event_ids
from harness.nats.backup import restore, take_backup
from harness.nats.server import NatsServer
from harness.processes.in_process_api import api_in_process
from harness.sse.client import SseClient, follow, places
from tailrace_shared.nats.jetstream import JetStream

_FEED = "/api/v1/sse/stream?topics=feed"


async def test_ids_beyond_a_restored_backup_are_reset(nats_server: NatsServer) -> None:
    """Ids within it stay valid: the backup has the epoch of the log."""
    client = await nats.connect(nats_server.url)
    async with api_in_process(nats_server.url, heartbeat=0.2, retry=0.02) as api:
        log = HandWrittenLog(client)
        await log.begin()
        kept = replace(log, written=list(log.written))
        backup = await take_backup(JetStream(client), "EVENTS")
        for number in range(3):
            await log.step(f"lost-{number}")
        ids = await event_ids(log)
        async with (
            follow(api.port, log.execution) as stream,
            follow(api.port, log.execution, ids[1]) as resumed,
        ):
            await stream.take(1 + len(log.written))
            await resumed.take(1 + len(log.written) - 2)
            await JetStream(client).api("STREAM.DELETE.EVENTS")
            await restore(JetStream(client), backup)
            await kept.step("new")
            for each in (stream, resumed):
                await each.all()
                assert each.is_complete
                assert each.parser.last_event_id == ids[-1]
        assert api.hub.counts.closed["restored"] == 2
        assert await event_ids(kept) == [*ids[:2], *ids[2:4]]

        async with follow(api.port, log.execution, ids[-1]) as stream:
            _, reset, *events = await stream.take(2 + len(kept.written))
            assert reset.json() == {"reason": "restored", "from": ids[0]}
            assert places(events) == kept.written
        async with follow(api.port, log.execution, ids[1]) as stream:
            _, *events = await stream.take(3)
            assert places(events) == kept.written[2:]
        async with SseClient(api.port, _FEED, last_event_id=ids[-1]) as stream:
            _, reset = await stream.take(2)
            assert reset.type == "stream:reset"
            assert reset.json() == {"reason": "restored", "from": None}
    await client.close()
