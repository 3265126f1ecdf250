"""Tabs of a real browser share one stream: by a worker, or by locks."""

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Final

import httpx
import nats
import pytest

from harness.generators.hand_written_log import HandWrittenLog, completed
from harness.nats.server import NatsServer
from harness.processes.api_process import ApiProcess, api_replicas
from harness.processes.polling import until
from harness.web.chaos import FAULTS, chaos
from harness.web.leaders import ENDINGS, end_leader
from harness.web.tabs import Tabs, tabs

# The browser starts slowly on a loaded machine.
pytestmark = pytest.mark.timeout(300)

_TAKE_OVER_S: Final = 10.0
_CHAOS_S: Final = 8.0


class Site:
    """Two API replicas, and the log of an execution."""

    def __init__(self, replicas: list[ApiProcess], log: HandWrittenLog) -> None:
        self.replicas = replicas
        self.log = log

    @property
    def ports(self) -> list[int]:
        return [replica.port for replica in self.replicas]

    async def has_one_stream(self) -> bool:
        """Whether one client is connected to the two replicas."""
        async with httpx.AsyncClient(base_url=self.replicas[0].url, timeout=60) as http:
            answer = await http.get("/api/realtime/stats")
        return bool(answer.json()["connected_clients"] == 1)


@pytest.fixture(scope="module")
def replicas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, list[ApiProcess]]]:
    """Start NATS and two API replicas."""
    folder = tmp_path_factory.mktemp("tabs")
    settings = {"heartbeat": "300ms", "retry": "20ms"}
    with (
        NatsServer(folder) as server,
        api_replicas(2, server.url, folder, **settings) as started,
    ):
        yield server.url, started


@pytest.fixture
async def site(replicas: tuple[str, list[ApiProcess]]) -> AsyncIterator[Site]:
    """Begin the log of an execution."""
    url, started = replicas
    client = await nats.connect(url)
    log = HandWrittenLog(client)
    await log.begin()
    yield Site(started, log)
    await client.close()


async def check(opened: Tabs, site: Site) -> None:
    """Every tab has every event once, in the order of the log."""
    expected = [(kind, sequence) for kind, sequence, _index in site.log.written]
    for seen in await opened.all_have(len(expected)):
        assert [(kind, sequence_of(event_id)) for kind, event_id in seen] == expected


def sequence_of(event_id: str) -> int:
    """Return the sequence in an id, also in that of an opening: ``<id>~0.<sequence>.<n>``."""
    _base, _tilde, inside = event_id.partition("~")
    found = inside.split(".")
    return int(found[1]) if len(found) > 1 else int(event_id.split("-")[1])


async def test_twelve_tabs_are_live_over_one_stream(site: Site):
    """HTTP/1.1 allows six connections to a host: without sharing the seventh would never load."""
    async with tabs(site.log.execution, "worker", *site.ports) as opened:
        for _ in range(12):
            await opened.open()
        await site.log.step("a")
        await check(opened, site)
        for page in opened.pages:
            await opened.until(page, "client.connection.get().tabs === 12")
            shown = await page.evaluate("client.connection.get()")
            assert shown["sharing"] == "worker"
            assert shown["streams"] == 1
        await until(site.has_one_stream)
        # The stream is cut in the middle of an event.
        opened.gateway.cut_at = b'"node_id":"cut"'
        await site.log.step("cut")
        await site.log.step("b")
        await check(opened, site)


@pytest.mark.parametrize("ending", ENDINGS)
async def test_another_tab_leads_when_the_leading_one_is_gone(
    site: Site, ending: str, record_property: Callable[[str, object], None]
):
    """Within two seconds on an idle machine; the bound is that of a busy one."""
    async with tabs(site.log.execution, "locks", *site.ports) as opened:
        for _ in range(3):
            await opened.open()
        await site.log.step("a")
        await check(opened, site)
        seconds = await end_leader(opened, ending)
        record_property(f"{ending}: another tab leads after, in s", round(seconds, 2))
        assert seconds < _TAKE_OVER_S
        await site.log.step("b")
        await site.log.commit(completed(site.log.execution, None))
        await check(opened, site)


async def test_tabs_without_a_network_show_it_and_go_on_when_it_is_back(site: Site):
    """A worker has a network of its own: it learns from its tabs that they have none."""
    async with tabs(site.log.execution, "auto", *site.ports) as opened:
        for _ in range(2):
            await opened.open()
        await site.log.step("a")
        await check(opened, site)
        await opened.set_offline(True)
        for page in opened.pages:
            await opened.until(page, "client.connection.get().detail === 'offline'")
            shown = await page.evaluate("client.connection.get()")
            assert (shown["sharing"], shown["state"]) == ("worker", "disconnected")
        requests = len(opened.gateway.stream_requests)
        await site.log.step("b")
        await opened.set_offline(False)
        await check(opened, site)
        assert len(opened.gateway.stream_requests) > requests


@pytest.mark.timeout(900)
@pytest.mark.parametrize("sharing", ["auto", "locks"])
async def test_every_tab_has_every_event_once_under_faults(
    sharing: str, record_property: Callable[[str, object], None]
):
    """The short form of the campaign in `harness.web.chaos`."""
    campaign = await chaos(_CHAOS_S, 7, sharing)
    record_property(f"{sharing}: looks", campaign.looks)
    for kind, count in campaign.done.items():
        record_property(f"{sharing}: {kind}", count)
    assert campaign.problems == []
    assert campaign.sharing == {"locks" if sharing == "locks" else "worker"}
    assert all(campaign.done[kind] for kind in FAULTS)
    # Each tab is compared with the log when it is closed, and at the end all that are left.
    assert campaign.looks >= campaign.done["tabs closed"] > 0
    assert campaign.events == len(campaign.log.written)
