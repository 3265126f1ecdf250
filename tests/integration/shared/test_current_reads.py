"""The harness judges a log only when it has all that the leader holds."""

from typing import Any

import pytest

from harness.generators.workflows import definition
from harness.nats.current_reads import current_commits, current_messages
from harness.nats.site import Site
from tailrace_shared.ids import new_execution_id
from tailrace_shared.nats.jetstream import JetStream
from tailrace_shared.stores.execution_log import ExecutionLog
from tailrace_shared.stores.workflow_store import StoredWorkflow


@pytest.fixture
def behind(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let the first two reads answer as a replica does that lacks the last message."""
    answers: list[int] = []
    batch = JetStream.batch

    async def lagging(jetstream: JetStream, *request: Any) -> tuple[list[Any], int]:
        messages, pending = await batch(jetstream, *request)
        answers.append(len(messages))
        return (messages[:-1] if len(answers) <= 2 else messages), pending

    monkeypatch.setattr(JetStream, "batch", lagging)
    return answers


async def test_messages_that_a_replica_lacks_are_read_again(site: Site, behind: list[int]) -> None:
    """All messages on the subject are returned."""
    subject = site.subjects.log("t", new_execution_id())
    stored = [await site.jetstream.publish(subject, b"%d" % number) for number in range(3)]
    found = await current_messages(site.jetstream, site.events, subject)
    assert [message.sequence for message in found] == stored
    assert len(behind) == 3


async def test_commits_that_a_replica_lacks_are_read_again(site: Site, behind: list[int]) -> None:
    """All commits of the execution are returned; an unknown execution has none."""
    log, execution = ExecutionLog(site.jetstream, site.subjects), new_execution_id()
    await log.create("t", execution, StoredWorkflow(definition({"a": {}}), 1), {})
    assert len(await current_commits(log, "t", execution)) == 1
    assert len(behind) == 3
    assert await current_commits(log, "t", new_execution_id()) == []
