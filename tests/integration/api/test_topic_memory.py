"""The memory of topics is bounded, however many different topics clients request."""

from contextlib import AsyncExitStack

import httpx
from nats.aio.client import Client

from harness.generators.hand_written_log import HandWrittenLog, completed, step_log
from harness.nats.server import NatsServer
from harness.processes.in_process_api import InProcessApi, api_in_process
from harness.sse.client import SseClient, follow, places
from harness.sse.tenant_client import StreamReader


def _page(api: InProcessApi, tenant: str, *topics: str) -> SseClient:
    path = "/api/v1/sse/stream?topics=" + ",".join(topics)
    return SseClient(api.port, path, headers={"x-organization-id": tenant})


async def _metrics(api: InProcessApi) -> list[str]:
    async with httpx.AsyncClient(timeout=60) as http:
        answer = await http.get(f"http://127.0.0.1:{api.port}/metrics")
        return answer.text.splitlines()


async def test_a_tenant_cannot_exceed_its_topic_memory(
    idle_nats: NatsServer, nats_client: Client, tenant: str
) -> None:
    """A stream of a new topic gets a `retry`; open topics and other tenants are not affected."""
    async with (
        api_in_process(idle_nats.url, retry=1.0, max_tenant_topic_bytes=100_000) as api,
        AsyncExitStack() as stack,
    ):
        pages: list[SseClient] = []
        while True:
            page = _page(api, tenant, f"pipeline:p{len(pages)}")
            if len(await (await stack.enter_async_context(page)).take(2)) < 2:
                break
            pages.append(page)
        assert 5 <= len(pages) <= 12
        async with _page(api, tenant, "pipeline:other") as refused:
            (refusal,) = await refused.all()
            assert refusal.json()["reason"] == "tenant_topics_full"
            assert refused.status == 200
            assert refused.parser.retry is not None
            assert 500 <= refused.parser.retry <= 1500
        for who, topic in ((tenant, "pipeline:p0"), (f"{tenant}-2", "pipeline:other")):
            async with _page(api, who, topic) as served:
                assert len(await served.take(2)) == 2
        await HandWrittenLog(nats_client, tenant).begin("p0")
        (update,) = await pages[0].take(1)
        assert update.json()["event"] == "status_update"
        found = await _metrics(api)
        assert 'tailrace_api_streams_refused_total{reason="tenant_topics_full"} 2.0' in found
        (kept,) = [line for line in found if line.startswith("tailrace_api_topic_bytes ")]
        assert 80_000 <= float(kept.split()[1]) <= 130_000


async def test_fast_clients_lose_nothing_with_small_rings(
    idle_nats: NatsServer, nats_client: Client, tenant: str
) -> None:
    """Twenty times the ring size passes through, and no event is missing."""
    limit = 200_000
    log = HandWrittenLog(nats_client, tenant)
    await log.begin()
    async with (
        api_in_process(idle_nats.url, max_tenant_topic_bytes=limit) as api,
        AsyncExitStack() as stack,
    ):
        pages = []
        for number in range(4):
            topics = (f"execution:{log.execution}", f"pipeline:p{number}")
            page = await stack.enter_async_context(StreamReader(_page(api, tenant, *topics)))
            await page.primed()
            pages.append(page)
        sequences = []
        for _ in range(50):
            sequences.append(await log.commit(step_log("n", "x" * 20_000)))
            for page in pages:
                while places([event := await page.next()])[:1] == []:
                    pass
                assert places([event])[0][1] == sequences[-1]
            # Beyond the limit each ring keeps unsent events and the ones just sent.
            assert api.hub.topics.budget.bytes <= 3 * limit
        assert api.hub.counts.closed == {}


async def test_a_started_run_is_streamed_despite_full_memory(
    idle_nats: NatsServer, nats_client: Client, tenant: str
) -> None:
    """Its events are history, which needs no ring."""
    log = HandWrittenLog(nats_client, tenant)
    await log.begin()
    path, headers = "/api/v1/executions/stream", {"x-organization-id": tenant}
    async with (
        api_in_process(idle_nats.url, max_tenant_topic_bytes=10_000) as api,
        _page(api, tenant, f"execution:{log.execution}") as page,
    ):
        assert await page.take(1)
        async with follow(api.port, log.execution, tenant=tenant) as stream:
            seen = (await stream.all())[-1].id
        await log.commit(completed(log.execution))
        body = {"flow_id": "p", "input_data": {}}
        new = SseClient(api.port, path, method="POST", headers=headers, body=body)
        old = SseClient(
            api.port, path, method="POST", headers=headers, body=body, last_event_id=seen
        )
        async with new, old:
            (refusal,) = await new.all()
            assert refusal.json()["reason"] == "tenant_topics_full"
            assert [event.json()["type"] for event in await old.all() if event.data] == [
                "executionFinished"
            ]
