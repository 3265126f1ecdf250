"""The demand for workers, as JetStream's leaders count it."""

from harness.nats.site import Site
from tailrace_shared.installation import demand
from tailrace_shared.installation.demand import DemandReader
from tailrace_shared.nats.jobs import EXECUTIONS_QUEUE, advance_job
from tailrace_shared.nats.topology import JOBS
from tailrace_shared.stores.stores import Stores
from tailrace_shared.subjects import share_queue


async def test_the_demand_is_what_waits_runs_and_is_about_to_fire(site: Site):
    """Jobs that no worker has, those that one has, tenants' queues and the next timers."""
    stores = Stores.over(site.jetstream, site.subjects)
    reader = DemandReader(site.jetstream, site.subjects, stores)
    assert (await reader.read()).total == 0
    await _check_jobs_without_a_worker(site, reader)
    stream, subject = site.subjects.stream(JOBS), site.subjects.job(EXECUTIONS_QUEUE)
    consumer = {"durable_name": "executions", "filter_subject": subject, "ack_policy": "explicit"}
    await site.jetstream.api(
        f"CONSUMER.CREATE.{stream}.executions.{subject}",
        {"stream_name": stream, "config": consumer, "action": "create"},
    )
    now = await reader._now()
    inbox = site.client.new_inbox()
    taken = await site.client.subscribe(inbox)
    await site.client.publish(f"$JS.API.CONSUMER.MSG.NEXT.{stream}.executions", b"1", inbox)
    await taken.next_msg(timeout=60)
    for number, by in enumerate((0.0, now + 10, now + 20, now + 1000)):
        await stores.due.put("t", f"d{number}", by)
    for number in range(4):
        await stores.queues.join(share_queue("t"), "t", f"q{number}")
    await stores.leases.put("line.t", b"")
    found = await reader.read()
    queue = found.queues[EXECUTIONS_QUEUE]
    assert (queue.queued, queue.in_flight, queue.oldest_seconds > 0) == (2, 1, True)
    assert (found.waiting_for_share, found.due_soon) == (4, 2)
    assert (found.queued, found.in_flight, found.total) == (6, 1, 9)


async def test_all_tenants_count_although_one_reading_counts_some(site: Site, monkeypatch):
    """A reading counts the queues of some tenants, the next one those of others."""
    monkeypatch.setattr(demand, "_MAX_TENANTS", 2)
    stores = Stores.over(site.jetstream, site.subjects)
    reader = DemandReader(site.jetstream, site.subjects, stores)
    for tenant in range(5):
        for number in range(3):
            await stores.queues.join(share_queue(f"t{tenant}"), f"t{tenant}", f"q{number}")
        await stores.leases.put(f"line.t{tenant}", b"")
    # A tenant whose queue has not been counted yet has one execution in it at least.
    assert [(await reader.read()).waiting_for_share for _ in range(4)] == [9, 13, 15, 15]
    await stores.leases.purge("line.t0")
    await stores.queues.join(share_queue("t3"), "t3", "another")
    assert [(await reader.read()).waiting_for_share for _ in range(2)][-1] == 13


async def _check_jobs_without_a_worker(site: Site, reader: DemandReader) -> None:
    """An autoscaler must start the first worker, so the queue counts before it has a consumer."""
    for number in range(3):
        job = advance_job("t", f"e{number}")
        await site.jetstream.publish(site.subjects.job(EXECUTIONS_QUEUE), job)
    queue = (await reader.read()).queues[EXECUTIONS_QUEUE]
    assert (queue.queued, queue.in_flight, queue.oldest_seconds > 0) == (3, 0, True)
