"""Dead letters over HTTP: listed, shown, replayed, deleted and purged."""

import base64
from collections.abc import Awaitable, Callable
from uuid import uuid4

import httpx
import msgspec
import pytest

from harness.nats.current_reads import current_messages
from tailrace_shared.nats.jetstream import JetStream
from tailrace_shared.nats.jobs import JobMessage
from tailrace_shared.stores.dead_letters import dead_letter_headers
from tailrace_shared.subjects import Subjects

URL = "/api/v1/dead-letters"
Bury = Callable[..., Awaitable[int]]


@pytest.fixture
def queue() -> str:
    """A queue that no other test uses."""
    return f"q-{uuid4().hex[:8]}"


@pytest.fixture
def dead_letter(jetstream: JetStream, queue: str) -> Bury:
    """Store a message as a dead letter, like a broker."""

    async def bury_one(
        body: bytes | None = None, headers: dict[str, str] | None = None, queue: str = queue
    ) -> int:
        subjects = Subjects()
        if body is None:
            options = {"retries": 3, "traceback": "old", "own": 1}
            body = msgspec.json.encode(
                JobMessage(queue_name=queue, actor_name="act", options=options, message_id="m1")
            )
        died = dead_letter_headers(
            headers or {},
            queue=queue,
            subject=subjects.job(queue),
            deliveries=2,
            reason="failed",
            error="ValueError: no\nsecond line é",
            traceback="Traceback…\n  in act\n",
        )
        return await jetstream.publish(subjects.dead(queue), body, died)

    return bury_one


async def on_queue(jetstream: JetStream, queue: str) -> list[JobMessage]:
    """Return the messages on a queue."""
    subject = Subjects().job(queue)
    return [
        msgspec.json.decode(message.data, type=JobMessage)
        for message in await current_messages(jetstream, "JOBS", subject)
    ]


async def test_a_dead_letter_is_shown_with_all_details(
    http: httpx.AsyncClient, dead_letter: Bury, queue: str
) -> None:
    """A summary in the list; headers, traceback and message in its own document."""
    letter_id = await dead_letter(headers={"traceparent": "00-x"})
    (listed,) = (await http.get(f"{URL}?queue={queue}")).json()["dead_letters"]
    assert {**listed, "died_at": ""} == {
        "id": letter_id,
        "queue": queue,
        "actor": "act",
        "message_id": "m1",
        "reason": "failed",
        "error": "ValueError: no\nsecond line é",
        "deliveries": 2,
        "died_at": "",
    }
    letter = (await http.get(f"{URL}/{letter_id}")).json()
    assert {key: letter[key] for key in listed} == listed
    assert letter["traceback"] == "Traceback…\n  in act\n"
    assert letter["headers"] == {"traceparent": "00-x"}
    assert letter["message"]["actor_name"] == "act"
    assert msgspec.json.decode(base64.b64decode(letter["body_base64"])) == letter["message"]


async def test_an_undecodable_dead_letter_is_shown_raw(
    http: httpx.AsyncClient, dead_letter: Bury
) -> None:
    """Byte for byte."""
    letter = (await http.get(f"{URL}/{await dead_letter(bytes([0, 255]))}")).json()
    assert (letter["actor"], letter["message_id"], letter["message"]) == (None, None, None)
    assert base64.b64decode(letter["body_base64"]) == bytes([0, 255])


async def test_dead_letters_are_listed_in_pages(
    http: httpx.AsyncClient, dead_letter: Bury, queue: str
) -> None:
    """Oldest first, after a given id."""
    ids = [await dead_letter() for _ in range(3)]
    first = (await http.get(f"{URL}?queue={queue}&limit=2")).json()
    rest = (await http.get(f"{URL}?queue={queue}&limit=2&after={first['after']}")).json()
    assert [letter["id"] for letter in first["dead_letters"]] == ids[:2]
    assert first["after"] == ids[1]
    assert [letter["id"] for letter in rest["dead_letters"]] == ids[2:]
    assert rest["after"] is None


async def test_a_replayed_dead_letter_is_a_job_again(
    http: httpx.AsyncClient, dead_letter: Bury, jetstream: JetStream, queue: str
) -> None:
    """It has all its retries, and is no longer a dead letter."""
    letter_id = await dead_letter()
    answer = await http.post(f"{URL}/{letter_id}/replay")
    assert (answer.status_code, answer.json()) == (200, {"replayed": 1})
    (job,) = await on_queue(jetstream, queue)
    assert (job.message_id, job.options) == ("m1", {"own": 1})
    assert (await http.get(f"{URL}/{letter_id}")).status_code == 404
    assert (await http.post(f"{URL}/{letter_id}/replay")).status_code == 404
    assert len(await on_queue(jetstream, queue)) == 1


async def test_each_firing_of_a_schedule_is_replayed_under_its_own_id(
    http: httpx.AsyncClient, dead_letter: Bury, jetstream: JetStream, queue: str
) -> None:
    """All firings carry the same message; with its id as job id, only one would run."""
    for second in (1, 2):
        await dead_letter(
            headers={
                "Nats-Scheduler": "tr.jobs.cron.q.s",
                "Nats-Schedule-Next": f"2026-11-21T10:00:0{second}Z",
            }
        )
    listed = (await http.get(f"{URL}?queue={queue}")).json()["dead_letters"]
    answer = await http.post(f"{URL}/replay?queue={queue}")
    assert answer.json() == {"replayed": 2}
    names = [job.message_id for job in await on_queue(jetstream, queue)]
    assert names == [letter["message_id"] for letter in listed]
    assert len(set(names)) == 2


@pytest.mark.parametrize("empty", ["", "%20"])
async def test_an_empty_queue_does_not_select_all_queues(
    http: httpx.AsyncClient, dead_letter: Bury, queue: str, empty: str
) -> None:
    """A script whose variable is unset must not purge everything."""
    await dead_letter()
    for method, path in (("DELETE", ""), ("POST", "/replay"), ("GET", "")):
        answer = await http.request(method, f"{URL}{path}?queue={empty}")
        assert answer.status_code == 400
        assert "queue" in answer.json()["detail"]
    assert len((await http.get(f"{URL}?queue={queue}")).json()["dead_letters"]) == 1


async def test_queues_are_replayed_and_purged_separately(
    http: httpx.AsyncClient, dead_letter: Bury, queue: str
) -> None:
    """Dead letters of other queues stay."""
    other = f"{queue}-other"
    for name in (queue, queue, other):
        await dead_letter(queue=name)
    assert (await http.delete(f"{URL}?queue={queue}")).json() == {"purged": 2}
    assert (await http.post(f"{URL}/replay?queue={queue}")).json() == {"replayed": 0}
    assert len((await http.get(f"{URL}?queue={other}")).json()["dead_letters"]) == 1
    assert (await http.delete(URL)).json()["purged"] >= 1
    assert (await http.get(URL)).json() == {"dead_letters": [], "after": None}


async def test_one_dead_letter_is_deleted(
    http: httpx.AsyncClient, dead_letter: Bury, queue: str
) -> None:
    """The others stay."""
    first, second = await dead_letter(), await dead_letter()
    assert (await http.delete(f"{URL}/{first}")).status_code == 204
    (left,) = (await http.get(f"{URL}?queue={queue}")).json()["dead_letters"]
    assert left["id"] == second


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "?limit=0", 400),
        ("GET", "?limit=x", 400),
        ("GET", "?after=-1", 400),
        ("GET", "?after=99999999999999999999", 400),
        ("GET", "?queue=a%20b", 400),
        ("GET", "?queue=", 400),
        ("DELETE", "?queue=", 400),
        ("DELETE", "?queue=*", 400),
        ("POST", "/replay?queue=%3E", 400),
        ("GET", "/x", 400),
        ("GET", "/0", 400),
        ("GET", "/999999999", 404),
        ("DELETE", "/999999999", 404),
        ("POST", "/999999999/replay", 404),
        ("DELETE", "/x", 400),
        ("POST", "/x/replay", 400),
        ("POST", "", 405),
        ("PUT", "/1", 405),
    ],
)
async def test_invalid_requests_get_problems(
    http: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    """Each is a problem document."""
    answer = await http.request(method, URL + path)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"]
