"""Client libraries: nothing is lost, repeated, torn or empty, except for known defects.

Each client follows each stream through a gate that cuts it four times in the middle of an event and
moves it between two replicas. All of them run at once, on one log.
"""

import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import httpx
import nats
import pytest

from harness.campaigns.client_matrix import (
    CLIENTS,
    HERE,
    POSTING,
    STREAMS,
    Matrix,
    Outcome,
    is_whole,
    logged,
    require_clients,
    required_program,
)
from harness.generators.hand_written_log import HandWrittenLog
from harness.http.client_gate import CUTS
from harness.nats.server import NatsServer
from harness.processes.api_process import ApiProcess, api_replicas

# Known defects; docs/clients.md describes them.
_REPEATS_AFTER_204: Final = frozenset(
    {
        "event-source-polyfill",
        "fetch-event-source-readme",
        "reconnecting-eventsource",
        "sse.js",
    }
)
# Every stream ends in one piece, by the API or the gate, while the client reads it.
_STOPS_AT_AN_END: Final = frozenset({"fetch-event-source"})
_DISPATCHES_TORN_EVENTS: Final = frozenset({"r3labs"})

# The clients run in the fixture of the first test; each of their waits has a limit of its own.
pytestmark = pytest.mark.timeout(600)

_FLOW: Final = {"tags": ["eu"], "nodes": {"n": {"type": "log", "with": {"message": "x"}}}}
_PAIRS: Final = [
    (client, stream)
    for client, stream in itertools.product(CLIENTS, STREAMS)
    if stream != "run-and-stream" or client in POSTING
]


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcome]:
    """Run all clients once."""
    require_clients()
    folder = tmp_path_factory.mktemp("clients")
    settings = {"heartbeat": "300ms", "retry": "20ms"}
    with (
        NatsServer(folder) as server,
        api_replicas(2, server.url, folder, **settings) as replicas,
    ):
        yield asyncio.run(_run(server.url, replicas))


async def _run(nats_url: str, replicas: list[ApiProcess]) -> Outcome:
    client = await nats.connect(nats_url)
    async with httpx.AsyncClient(base_url=replicas[0].url, timeout=60) as http:
        stored = await http.put("/api/v1/workflows/flow", json=_FLOW)
        assert stored.is_success, stored.text
    try:
        return await Matrix(HandWrittenLog(client), [each.port for each in replicas]).run()
    finally:
        await client.close()


@pytest.mark.parametrize(("client", "stream"), _PAIRS)
def test_a_client_receives_every_event_once(outcome: Outcome, client: str, stream: str) -> None:
    """As an uncut client does, in the same order."""
    followed, expected = outcome.followed[client, stream], outcome.expected[stream]
    assert followed.cuts == CUTS
    events = followed.events
    if client in _DISPATCHES_TORN_EVENTS:
        torn = [event for event in events if not is_whole(event)]
        # The beginning of an event that it receives as a whole afterwards, or of a heartbeat.
        whole = [data for _, data in expected] + ['{"type":"heartbeat"']
        assert all(any(data.startswith(each.data[:19]) for data in whole) for each in torn)
        events = [event for event in events if is_whole(event)]
    assert all(event.data for event in events)
    assert logged(events) == expected


@pytest.mark.parametrize(("client", "stream"), _PAIRS)
def test_a_client_stops_when_the_stream_is_over(outcome: Outcome, client: str, stream: str) -> None:
    """At a 204, which some clients take for an error and repeat; one does so at the first end."""
    followed = outcome.followed[client, stream]
    assert set(followed.statuses) <= {200, 204}
    if client in _STOPS_AT_AN_END:
        assert followed.has_stopped
        assert 204 not in followed.statuses
    elif client in _REPEATS_AFTER_204:
        assert not followed.has_stopped
        assert followed.statuses.count(204) >= 3
    else:
        assert followed.has_stopped
        assert followed.statuses.count(204) == 1


def test_nodes_fetch_reports_a_cut_as_an_error(tmp_path: Path) -> None:
    """Connected directly to the API: with `Connection: close` it would be the end of the body."""
    asyncio.run(_fetch_and_cut(tmp_path))


async def _fetch_and_cut(folder: Path) -> None:
    with NatsServer(folder) as server, ApiProcess(server.url, folder) as api:
        process = await asyncio.create_subprocess_exec(
            required_program("node"),
            str(HERE / "node/fetch.js"),
            f"{api.url}/api/realtime/events",
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        assert (await process.stdout.readline()).strip() == b"connected"
        api.kill()
        output, _ = await process.communicate()
    assert output.strip() == b"error: terminated"
