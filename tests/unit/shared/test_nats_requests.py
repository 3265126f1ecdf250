"""The request multiplexer, without a server."""

import asyncio
import math
from typing import Any

import nats.errors
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from tailrace_shared.nats import nats_requests
from tailrace_shared.nats.nats_requests import RequestMultiplexer


class _Server(Client):
    """Records requests, and replies on a test's request."""

    def __init__(self) -> None:
        super().__init__()
        self.subscriptions: list[str] = []
        self.replies: list[str] = []
        self._more = asyncio.Event()
        self._taker: asyncio.Future[Msg]

    async def subscribe(self, subject: str, *_: Any, future: Any = None, **__: Any) -> Any:
        """Record a subscription."""
        await asyncio.sleep(0)
        self.subscriptions.append(subject)
        self._taker = future

    async def publish(
        self,
        subject: str,  # noqa: ARG002 - as nats-py has it
        payload: bytes = b"",  # noqa: ARG002
        reply: str = "",
        headers: dict[str, str] | None = None,  # noqa: ARG002
    ) -> None:
        """Record a request."""
        self.replies.append(reply)
        self._more.set()

    async def sent(self, count: int) -> None:
        """Wait until so many requests were sent."""
        while len(self.replies) < count:
            self._more.clear()
            await self._more.wait()

    def answer(self, request: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        """Reply to the request with this index."""
        reply = self.replies[request]
        self._taker.set_result(Msg(self, subject=reply, data=data, headers=headers))


@pytest.fixture
def resending_server(monkeypatch: pytest.MonkeyPatch) -> _Server:
    """A server to which requests are sent again soon, however busy this machine is."""
    monkeypatch.setattr(nats_requests, "RESEND_S", 0.01)
    monkeypatch.setattr(nats_requests, "_STALL_S", math.inf)
    monkeypatch.setattr(_Server, "is_connected", True)
    monkeypatch.setattr(nats_requests, "_publish", _publish)
    return _Server()


async def _settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_all_requests_share_one_subscription() -> None:
    """Each request gets its own reply."""
    server = _Server()
    requests = RequestMultiplexer(server, 60)
    first, second = (asyncio.create_task(requests.request("s", b"")) for _ in range(2))
    await _settle()
    server.answer(1, b"two")
    server.answer(0, b"one")
    assert ((await first).data, (await second).data) == (b"one", b"two")
    assert len(server.subscriptions) == 1


async def test_a_cancellation_that_arrives_with_the_reply_is_not_lost() -> None:
    """Otherwise the task would live on."""
    server = _Server()
    task = asyncio.create_task(RequestMultiplexer(server, 60).request("s", b""))
    await _settle()
    server.answer(0, b"{}")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_request_without_a_reply_times_out_and_is_forgotten() -> None:
    """A late reply is ignored."""
    server = _Server()
    requests = RequestMultiplexer(server, 0.01)
    with pytest.raises(TimeoutError):
        await requests.request("s", b"")
    server.answer(0, b"late")
    assert not requests._pending


async def test_a_subject_without_subscribers_is_reported_at_once() -> None:
    """NATS itself replies that there are no responders."""
    server = _Server()
    task = asyncio.create_task(RequestMultiplexer(server, 60).request("s", b""))
    await _settle()
    server.answer(0, b"", {"Status": "503"})
    with pytest.raises(nats.errors.NoRespondersError):
        await task


async def test_a_request_may_have_many_replies() -> None:
    """The caller's callback decides which one is the last."""
    server = _Server()
    done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    taken: list[bytes] = []

    def take(message: Msg) -> None:
        taken.append(message.data)
        if message.data == b"end":
            done.set_result(7)

    task = asyncio.create_task(RequestMultiplexer(server, 60).request_many("s", b"", take, done))
    await _settle()
    for data in (b"a", b"b", b"end"):
        server.answer(0, data)
    assert await task == 7
    assert taken == [b"a", b"b", b"end"]


async def test_a_request_with_many_replies_is_sent_again_after_a_silence(
    resending_server: _Server,
) -> None:
    """Each copy has replies of its own; the first one that is complete counts."""
    server = resending_server
    done: asyncio.Future[list[bytes]] = asyncio.get_running_loop().create_future()

    def begin() -> nats_requests.OnReply:
        taken: list[bytes] = []

        def take(message: Msg) -> None:
            taken.append(message.data)
            if message.data == b"end" and not done.done():
                done.set_result(taken)

        return take

    requests = RequestMultiplexer(server, 60)
    task = asyncio.create_task(requests.request_many("s", b"", begin(), done, begin))
    async with asyncio.timeout(10):
        await server.sent(1)
        server.answer(0, b"a")
        await server.sent(3)
    server.answer(1, b"b")
    server.answer(2, b"c")
    server.answer(1, b"end")
    assert await task == [b"b", b"end"]
    assert len(set(server.replies)) == len(server.replies)
    assert not requests._pending


@pytest.mark.parametrize("is_busy", [False, True])
async def test_a_read_is_not_sent_again_while_the_connection_is_busy(
    resending_server: _Server, monkeypatch: pytest.MonkeyPatch, *, is_busy: bool
) -> None:
    """Its reply waits behind others, and a copy would delay them further."""
    monkeypatch.setattr(nats_requests, "_BUSY_BYTES_PER_S", -1 if is_busy else math.inf)
    server = resending_server
    requests = RequestMultiplexer(server, 0.2)
    read = requests.request("read", b"", is_repeatable=True, needs_leader=False)
    with pytest.raises(TimeoutError):
        await read
    assert (len(server.replies) == 1) == is_busy


async def test_a_read_is_sent_again_while_other_messages_arrive(
    resending_server: _Server,
) -> None:
    """A replica follows megabytes of live events over the same connection."""
    server = resending_server
    requests = RequestMultiplexer(server, 60)
    read = requests.request("read", b"", is_repeatable=True, needs_leader=False)
    reading = asyncio.create_task(read)
    await server.sent(1)
    server.stats["in_bytes"] += 2**40
    await server.sent(2)
    server.answer(0, b"{}")
    assert (await reading).data == b"{}"


async def test_an_undecodable_reply_raises_in_the_caller() -> None:
    """It must not break the shared connection."""
    server = _Server()
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def take(_message: Msg) -> None:
        raise ValueError("not a number")

    task = asyncio.create_task(RequestMultiplexer(server, 60).request_many("s", b"", take, done))
    await _settle()
    server.answer(0, b"?")
    with pytest.raises(ValueError, match="not a number"):
        await task


async def test_every_request_times_out_after_its_own_start() -> None:
    """One timer serves all requests."""
    server = _Server()
    requests = RequestMultiplexer(server, 0.01)
    first = asyncio.create_task(requests.request("s", b""))
    await asyncio.wait([first], timeout=0.005)
    for request in (first, asyncio.create_task(requests.request("s", b""))):
        with pytest.raises(TimeoutError):
            await request


async def test_a_repeatable_request_is_sent_again_for_the_same_reply(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A server that is frozen loses it; its successor answers the copy."""
    monkeypatch.setattr(nats_requests, "RESEND_S", 0.01)
    server = _Server()
    monkeypatch.setattr(_Server, "is_connected", True)
    monkeypatch.setattr(nats_requests, "_publish", _publish)
    task = asyncio.create_task(RequestMultiplexer(server, 60).request("s", b"", is_repeatable=True))
    async with asyncio.timeout(10):
        await server.sent(3)
    assert len(set(server.replies)) == 1
    server.answer(2, b"{}")
    assert (await task).data == b"{}"


async def test_a_repeatable_request_outlives_the_election_of_a_leader(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without one no subscriber listens on the subjects of a stream."""
    monkeypatch.setattr(nats_requests, "RESEND_S", 0.01)
    server = _Server()
    monkeypatch.setattr(_Server, "is_connected", True)
    monkeypatch.setattr(nats_requests, "_publish", _publish)
    task = asyncio.create_task(RequestMultiplexer(server, 60).request("s", b"", is_repeatable=True))
    async with asyncio.timeout(10):
        await server.sent(1)
        server.answer(0, b"", {"Status": "503"})
        await server.sent(2)
    server.answer(1, b"{}")
    assert (await task).data == b"{}"


async def test_a_request_to_any_replica_is_refused_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It needs no leader: without a subscriber there is no replica."""
    monkeypatch.setattr(nats_requests, "RESEND_S", 0.01)
    server = _Server()
    requests = RequestMultiplexer(server, 60)
    task = asyncio.create_task(requests.request("s", b"", is_repeatable=True, needs_leader=False))
    async with asyncio.timeout(10):
        await server.sent(1)
    server.answer(0, b"", {"Status": "503"})
    with pytest.raises(nats.errors.NoRespondersError):
        await task


async def test_a_repeatable_request_says_in_the_end_that_no_subscriber_listens() -> None:
    """The reason is better than that of a timeout."""
    server = _Server()
    requests = RequestMultiplexer(server, 0.05)
    task = asyncio.create_task(requests.request("s", b"", is_repeatable=True))
    async with asyncio.timeout(10):
        await server.sent(1)
    server.answer(0, b"", {"Status": "503"})
    with pytest.raises(nats.errors.NoRespondersError):
        await task


async def test_other_requests_are_sent_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second one might do something else."""
    monkeypatch.setattr(nats_requests, "RESEND_S", 0.001)
    server = _Server()
    with pytest.raises(TimeoutError):
        await RequestMultiplexer(server, 0.02).request("s", b"")
    assert len(server.replies) == 1


async def _publish(
    client: _Server, subject: str, payload: bytes, reply: str, headers: dict[str, str] | None
) -> None:
    await client.publish(subject, payload, reply, headers)
