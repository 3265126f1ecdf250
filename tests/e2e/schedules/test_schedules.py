"""Schedules from end to end with real NATS, API and workers: each firing starts one run."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from harness.nats.server import NatsServer
from harness.processes.api_process import ApiProcess
from harness.processes.installation import Installation, installation
from harness.processes.polling import until
from tailrace_shared.errors import UnavailableError
from tailrace_shared.execution.timestamps import parse_timestamp
from tailrace_shared.nats.jetstream import StoredMessage
from tailrace_shared.nats.jobs import EXECUTIONS_QUEUE, JobMessage, firing_id
from tailrace_shared.subjects import Subjects

SECONDLY = {"workflow_id": "flow", "cron": "@every 1s", "id": "tick", "input": {"n": 1}}
FLOW = {"nodes": {"a": {"type": "transform", "with": {"value": "${input}"}}}}
JOBS = Subjects().job(EXECUTIONS_QUEUE)


@pytest.fixture
async def site(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[Installation]:
    """An installation without a running worker."""
    async with installation(nats_server, tmp_path) as opened:
        yield opened


@pytest.fixture
async def http(site: Installation, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an API process that has stored the workflow ``flow``."""
    with ApiProcess(site.nats.url, tmp_path) as api:
        async with httpx.AsyncClient(base_url=api.url, timeout=60) as client:
            await client.put("/api/v1/workflows/flow", json=FLOW)
            yield client


async def post(http: httpx.AsyncClient, **fields: Any) -> None:
    """Post the schedule."""
    answer = await http.post("/api/v1/schedules", json={**SECONDLY, **fields})
    assert answer.is_success, answer.text


async def firings(site: Installation, count: int) -> list[StoredMessage]:
    """Return the published firings once there are enough."""
    async with asyncio.timeout(count + 60):
        while True:
            found = [message async for message in site.jetstream.read("JOBS", JOBS, 1)]
            if len(found) >= count:
                return found
            await asyncio.sleep(0.05)


async def fire(site: Installation, http: httpx.AsyncClient, count: int) -> list[StoredMessage]:
    """Let the schedule fire while no worker runs, then delete it; return all firings."""
    await post(http)
    await firings(site, count)
    assert (await http.delete("/api/v1/schedules/tick")).status_code == 204
    return await firings(site, count)


async def put_again(site: Installation, message: StoredMessage, message_id: str | None) -> None:
    """Publish a fired job again under a message id.

    JetStream ignores headers of firings, so the id goes where a retry has it.
    """
    job = msgspec.json.decode(message.data, type=JobMessage)
    assert message_id is not None
    job.message_id = message_id
    await site.jetstream.publish(JOBS, msgspec.json.encode(job))


async def listed(http: httpx.AsyncClient, path: str, what: str) -> list[dict[str, Any]]:
    """Return a list, retried while the API may have lost NATS."""
    async with asyncio.timeout(60):
        while (answer := await http.get(path)).status_code == 503:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert answer.is_success, answer.text
    found: list[dict[str, Any]] = answer.json()[what]
    return found


async def runs(http: httpx.AsyncClient) -> list[dict[str, Any]]:
    """Return all runs."""
    return await listed(http, "/api/v1/executions?limit=200", "runs")


async def completed(http: httpx.AsyncClient, count: int) -> list[dict[str, Any]]:
    """Return all runs once enough have completed."""
    async with asyncio.timeout(60):
        while True:
            found = await runs(http)
            if Counter(run["status"] for run in found)["completed"] >= count:
                return found
            await asyncio.sleep(0.05)


async def queue_is_empty(site: Installation) -> None:
    """Wait until no job is left on the queue."""
    async with asyncio.timeout(60):
        while await is_queued(site):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def is_queued(site: Installation) -> bool:
    """Return whether a job may be on the queue; True while NATS is down."""
    try:
        return bool([message async for message in site.jetstream.read("JOBS", JOBS, 1)])
    except UnavailableError:
        return True


async def test_a_schedule_starts_runs_with_its_input_until_it_is_deleted(
    site: Installation, http: httpx.AsyncClient
):
    """One per second, and at most one that was under way at the deletion."""
    site.worker()
    await post(http)
    first, *_ = await completed(http, 3)
    document = (await http.get(f"/api/v1/executions/{first['execution_id']}")).json()
    assert document["input"] == document["output"]["a"] == {"n": 1}
    await http.delete("/api/v1/schedules/tick")
    await queue_is_empty(site)
    after = len(await runs(http))
    # It would have fired as often as another one does.
    await http.put("/api/v1/workflows/other", json=FLOW)
    await post(http, id="tock", workflow_id="other")
    await completed(http, after + 3)
    await http.delete("/api/v1/schedules/tock")
    assert sum(run["workflow_id"] == "flow" for run in await runs(http)) == after


async def test_a_firing_that_is_delivered_twice_starts_one_run(
    site: Installation, http: httpx.AsyncClient
):
    """Each job is published twice, as after a retry; each counts once."""
    fired = await fire(site, http, 3)
    for message in fired:
        await put_again(site, message, firing_id(message.headers))
    site.worker()
    site.worker()
    await completed(http, len(fired))
    await queue_is_empty(site)
    assert len(await runs(http)) == len(fired)


async def test_workers_that_die_at_every_start_start_no_run_twice(
    site: Installation, http: httpx.AsyncClient
):
    """Killed once a run is in the log, before or after its job is acknowledged."""
    fired = await fire(site, http, 4)
    started = asyncio.Event()

    async def heard(message: Any) -> None:
        if b"execution:queued" in message.data:
            started.set()

    await site.jetstream.client.subscribe(f"{Subjects().prefix}.live.>", cb=heard)
    for _ in range(3):
        started.clear()
        worker = await asyncio.to_thread(site.worker, worker_threads="1", ack_wait="1s")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(10):
                await started.wait()
        worker.kill()
    site.worker(ack_wait="1s")
    await completed(http, len(fired))
    await queue_is_empty(site)
    assert len(await runs(http)) == len(fired)


async def test_a_schedule_survives_restarts_of_workers_and_nats(
    site: Installation, http: httpx.AsyncClient, nats_server: NatsServer
):
    """Stopped or killed; each firing still starts one run."""
    worker = site.worker()
    await post(http)
    await completed(http, 1)
    for end in (nats_server.stop, nats_server.kill):
        end()
        nats_server.start()
        worker.kill()
        worker = await asyncio.to_thread(site.worker)
        before = len(await runs(http))
        await completed(http, before + 2)
    (schedule,) = await listed(http, "/api/v1/schedules", "schedules")
    assert schedule["id"] == "tick"


async def test_a_firing_without_its_workflow_becomes_a_dead_letter(
    site: Installation, http: httpx.AsyncClient
):
    """The schedule continues; replayed once the workflow is back, each is a run."""
    site.worker()
    await http.put("/api/v1/workflows/flow", json=FLOW)
    await post(http)
    await completed(http, 1)
    await http.delete("/api/v1/workflows/flow")
    letters = await dead_letters(http, 2)
    assert {letter["actor"] for letter in letters} == {"start_scheduled"}
    assert {letter["error"] for letter in letters} == {
        "WorkflowNotFoundError: there is no workflow 'flow': apply its definition first"
    }
    before = len(await runs(http))
    await http.put("/api/v1/workflows/flow", json=FLOW)
    await completed(http, before + 1)
    await http.delete("/api/v1/schedules/tick")
    await queue_is_empty(site)
    before = len(await runs(http))
    dead = len(await dead_letters(http, 2))
    answer = await http.post("/api/v1/dead-letters/replay?queue=executions")
    assert answer.json() == {"replayed": dead}
    await completed(http, before + dead)
    assert len(await runs(http)) == before + dead


async def test_a_firing_with_an_invalid_input_is_reported(
    site: Installation, http: httpx.AsyncClient
):
    """The report has the place; the worker's log does not repeat the input."""
    worker = site.worker()
    await post(http, input={"n": "a secret"})
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    await http.put("/api/v1/workflows/flow", json={**FLOW, "input": schema})
    (letter, *_) = await dead_letters(http, 1)
    assert "/input/n" in letter["error"]
    assert letter["reason"] == "failed"
    assert "start_scheduled" in worker.log_text
    assert "a secret" not in worker.log_text


async def dead_letters(http: httpx.AsyncClient, count: int) -> list[dict[str, Any]]:
    """Return the dead letters once there are enough."""
    async with asyncio.timeout(60):
        while True:
            found = await listed(http, "/api/v1/dead-letters", "dead_letters")
            if len(found) >= count:
                return found
            await asyncio.sleep(0.05)


async def test_a_schedule_that_replaces_another_starts_its_own_runs(
    site: Installation, http: httpx.AsyncClient
):
    """Firings of the old and the new one may have the same time."""
    first, *others = await fire(site, http, 1)
    await post(http, input={"n": 2})
    *_, second = await firings(site, len(others) + 2)
    await http.delete("/api/v1/schedules/tick")
    await site.jetstream.api("STREAM.PURGE.JOBS", {"filter": JOBS})
    for message in (first, second):
        await put_again(site, message, "the same place in time")
    site.worker()
    found = await completed(http, 2)
    documents = [
        (await http.get(f"/api/v1/executions/{run['execution_id']}")).json() for run in found
    ]
    assert sorted(document["input"]["n"] for document in documents) == [1, 2]


async def test_jobs_of_schedules_survive_an_outage_of_nats(
    site: Installation, http: httpx.AsyncClient, nats_server: NatsServer
):
    """Jobs that fired before the outage start their runs afterwards."""
    fired = await fire(site, http, 2)
    nats_server.kill()
    nats_server.start()
    site.worker()
    await completed(http, len(fired))
    await queue_is_empty(site)
    assert len(await runs(http)) == len(fired)


async def test_firings_wait_for_the_run_before(site: Installation, http: httpx.AsyncClient) -> None:
    """With `overlap: queue`, one run of the schedule is active at a time."""
    body = {"value": "${execution.scheduled_at}"}
    nodes = {
        "at": {"type": "transform", "with": body},
        "ask": {"type": "await", "needs": ["at"]},
    }
    flow = {"nodes": nodes, "schedules": [{"id": "tick", "every": "1s", "overlap": "queue"}]}
    assert (await http.put("/api/v1/workflows/flow", json=flow)).is_success
    await firings(site, 2)
    await http.put("/api/v1/workflows/flow", json={"nodes": nodes})
    count = len(await firings(site, 2))
    site.worker()
    for left in reversed(range(count)):
        (waiting,) = await by_status(http, paused=1, queued=left)
        document = (await http.get(f"/api/v1/executions/{waiting}")).json()
        assert document["schedule"] == "tick"
        assert document["steps"][0]["output"] == document["scheduled_at"]
        await http.post(f"/api/v1/executions/{waiting}/resume", json={"decision": "approved"})
    await completed(http, count)


ASKING = {"ask": {"type": "await"}}


async def overlapping(site: Installation, http: httpx.AsyncClient, overlap: str) -> int:
    """Let a schedule fire while no worker runs; return the number of firings."""
    flow = {"nodes": ASKING, "schedules": [{"id": "tick", "every": "1s", "overlap": overlap}]}
    assert (await http.put("/api/v1/workflows/flow", json=flow)).is_success
    await firings(site, 2)
    await http.put("/api/v1/workflows/flow", json={"nodes": ASKING})
    return len(await firings(site, 2))


async def test_firings_beside_an_active_run_are_skipped(
    site: Installation, http: httpx.AsyncClient
) -> None:
    """With `overlap: skip`. One that was started all the same, at the same moment, is refused."""
    await overlapping(site, http, "skip")
    site.worker(worker_threads="1")
    await by_status(http, paused=1)
    await queue_is_empty(site)
    started = await http.post("/api/v1/schedules", json={**SECONDLY, "overlap": "skip"})
    assert started.is_success
    async with asyncio.timeout(60):
        while True:
            shown = (await http.get("/api/v1/schedules/tick")).json()
            if shown["last_at"] is not None and shown["last_execution_id"] is None:
                break
            await asyncio.sleep(0.05)
    await http.delete("/api/v1/schedules/tick")
    statuses = Counter(run["status"] for run in await runs(http))
    assert statuses["paused"] == 1
    assert statuses.keys() <= {"paused", "cancelled"}


async def test_a_firing_cancels_the_run_before(site: Installation, http: httpx.AsyncClient) -> None:
    """With `overlap: cancel`, one stays."""
    count = await overlapping(site, http, "cancel")
    site.worker()
    await by_status(http, paused=1, cancelled=count - 1)


async def test_firings_that_an_outage_of_nats_swallowed_are_made_up(
    site: Installation, http: httpx.AsyncClient, nats_server: NatsServer
) -> None:
    """Each second of the outage has one run."""
    swallowed = await outage_of(site, http, nats_server, "* * * * * *")

    async def are_made_up() -> bool:
        return swallowed <= (await scheduled_times(http)).keys()

    await until(are_made_up, 240)
    await http.delete("/api/v1/schedules/tick")
    times = await scheduled_times(http)
    assert {times[moment] for moment in swallowed} == {1}


async def test_intervals_that_an_outage_of_nats_swallowed_are_made_up(
    site: Installation, http: httpx.AsyncClient, nats_server: NatsServer
) -> None:
    """NATS fires once for all of them, for the last; the others are made up then."""
    swallowed = await outage_of(site, http, nats_server, "@every 1s")
    # The firing of the first second may have been stored when NATS is killed.
    made_up = swallowed - {min(swallowed), max(swallowed)}
    assert made_up

    async def are_made_up() -> bool:
        return made_up <= (await scheduled_times(http)).keys()

    await until(are_made_up, 240)


async def outage_of(
    site: Installation, http: httpx.AsyncClient, nats_server: NatsServer, cron: str
) -> set[int]:
    """Kill NATS for three firings of a schedule that has fired; return their seconds."""
    site.worker(catch_up_window="10m", sweep_interval="1s")
    await post(http, cron=cron)
    await completed(http, 1)
    nats_server.kill()
    began = time.time()
    await asyncio.sleep(3.5)  # NATS fires by the clock
    ended = time.time()
    nats_server.start()
    return set(range(int(began) + 1, int(ended) + 1))


async def scheduled_times(http: httpx.AsyncClient) -> Counter[int]:
    """Return how many runs each second of a schedule has."""
    found = await runs(http)
    shown = [await http.get(f"/api/v1/executions/{run['execution_id']}") for run in found]
    times = [run.json()["scheduled_at"] for run in shown if run.is_success]
    return Counter(int(parse_timestamp(at)) for at in times)


async def by_status(http: httpx.AsyncClient, **wanted: int) -> list[str]:
    """Wait for so many runs of each status; return the ids of those of the first."""
    first = next(iter(wanted))
    async with asyncio.timeout(60):
        while True:
            found = await runs(http)
            counts = Counter(run["status"] for run in found)
            if all(counts[status] == count for status, count in wanted.items()):
                return [run["execution_id"] for run in found if run["status"] == first]
            await asyncio.sleep(0.05)
