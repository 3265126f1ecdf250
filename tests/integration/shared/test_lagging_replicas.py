"""Reads find what was stored, although every replica but the leader lags."""

from collections.abc import Iterator
from typing import Any

import pytest

from harness.generators.workflows import definition
from harness.nats.site import Site
from tailrace_shared.nats.jetstream import JetStream
from tailrace_shared.stores.dead_letters import DeadLetters
from tailrace_shared.stores.schedule_store import Schedule, ScheduleStore
from tailrace_shared.stores.workflow_store import WorkflowStore


@pytest.fixture(autouse=True)
def _lagging_replicas(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Answer Direct Gets as a replica does that has stored nothing yet."""

    async def get(_jetstream: JetStream, *_request: Any) -> None:
        return None

    async def batch(_jetstream: JetStream, *_request: Any) -> tuple[list[Any], int]:
        return [], 0

    with monkeypatch.context() as patched:
        patched.setattr(JetStream, "get", get)
        patched.setattr(JetStream, "batch", batch)
        yield


async def test_a_workflow_is_found_once_it_is_stored(site: Site) -> None:
    """A run may be started right after its workflow was stored."""
    store = WorkflowStore(site.jetstream, site.subjects)
    for _ in range(2):
        version = await store.put("t", definition({"a": {}}, id="flow"))
        assert (await store.get("t", "flow")).version == version


async def test_a_schedule_is_found_once_it_is_stored(site: Site) -> None:
    store = ScheduleStore(site.jetstream, site.subjects)
    schedule = Schedule(
        id="a", workflow_id="f", cron="0 0 0 1 1 *", time_zone=None, input={}, created_at=1.0
    )
    await store.put("t", schedule)
    assert await store.get("t", "a") == schedule


async def test_a_dead_letter_is_found_once_it_is_stored(site: Site) -> None:
    """An operator may replay a message right after it was listed."""
    sequence = await site.jetstream.publish(site.subjects.dead("q"), b"{}")
    letter = await DeadLetters(site.jetstream, site.subjects).get(sequence)
    assert letter is not None
    assert letter.body == b"{}"
