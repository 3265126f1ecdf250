"""Reads of the newest messages first, compared with a list of all."""

import random

import pytest

from tailrace_shared.nats.read_backwards import read_backwards
from tailrace_shared.nats.topology import STARTS

STEPS = (1, 7, 60)


@pytest.fixture
async def messages(site):
    """Many messages of one subject, few of others at the beginning, the middle and the end."""
    random.seed(1)
    order = ["early"] * 5 + ["many"] * 700 + ["middle"] * 3 + ["many"] * 300 + ["late"] * 2
    order += random.choices(["many", "some"], [9, 1], k=300)
    stream = site.subjects.stream(STARTS)
    for workflow in order:
        await site.jetstream.publish(site.subjects.start("t", workflow), workflow.encode())
    # A message whose acknowledgement is late is stored twice.
    stored = [
        (message.sequence, message.data.decode())
        async for message in site.jetstream.read(stream, ">", 1)
    ]
    for sequence, _ in stored[900:1100]:
        await site.jetstream.delete(stream, sequence)
    return stored[:900] + stored[1100:]


@pytest.fixture
def requests(site, monkeypatch):
    """The number of requests that were sent, by the first token after ``$JS.API``."""
    sent = []
    original = site.jetstream._requests.request_many

    async def count(subject, payload, on_reply, done, _begin_again):
        replies = [0]

        def counted(message):
            replies[0] += 1
            on_reply(message)

        try:
            return await original(subject, payload, counted, done)
        finally:
            sent.append(replies[0])

    monkeypatch.setattr(site.jetstream._requests, "request_many", count)
    return sent


async def test_pages_are_those_of_the_reversed_list(site, messages):
    """This holds for any density of the subject and any size of the page."""
    stream = site.subjects.stream(STARTS)
    for workflow in ("many", "some", "early", "middle", "late", "absent", None):
        pattern = site.subjects.start("t", workflow)
        wanted = [seq for seq, name in reversed(messages) if workflow in (None, name)]
        for limit in STEPS:
            seen, before = [], None
            while page := await read_backwards(
                site.jetstream, stream, pattern, limit, before=before
            ):
                assert len(page) <= limit
                seen += [message.sequence for message in page]
                before = seen[-1]
            assert seen == wanted


async def test_a_page_costs_its_rows(site, messages, requests):
    """Not the messages before it, after it, or of other subjects."""
    stream = site.subjects.stream(STARTS)
    for workflow in ("many", "some", "early", "middle", "late", None):
        pattern = site.subjects.start("t", workflow)
        for before in (None, messages[-1][0], messages[700][0]):
            requests.clear()
            page = await read_backwards(site.jetstream, stream, pattern, 20, before=before)
            assert len(requests) <= 8, (workflow, before)
            assert sum(requests) <= 4 * 20 + 8 + len(page), (workflow, before)


async def test_the_newest_message_of_all_subjects_may_be_deleted(site):
    """A server that has restored a backup then answers that the stream has no last message."""
    stream = site.subjects.stream(STARTS)
    sequences = [
        await site.jetstream.publish(site.subjects.start("t", "w"), b"{}") for _ in range(3)
    ]
    await site.jetstream.delete(stream, sequences[-1])
    newest = site.jetstream.get_newest

    async def miss(of, request):
        return None if request.get("last_by_subj") == ">" else await newest(of, request)

    site.jetstream.get_newest = miss
    found = await read_backwards(site.jetstream, stream, ">", 10)
    assert [message.sequence for message in found] == sequences[1::-1]
    await site.jetstream.api(f"STREAM.PURGE.{stream}")
    assert await read_backwards(site.jetstream, stream, ">", 10) == []
