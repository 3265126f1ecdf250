"""Connecting to NATS: every failure is one line."""

import asyncio
import contextlib
import socket

import pytest

from harness.nats.server import NatsServer
from harness.processes.ports import free_port
from tailrace_shared.duration import Duration
from tailrace_shared.errors import StartupError
from tailrace_shared.nats.jetstream import connect
from tailrace_shared.settings import CommonSettings


@contextlib.asynccontextmanager
async def pretender(greeting, answer=lambda _line, _inboxes: b""):
    """Listen as a server that sends ``greeting`` and then answers pings.

    ``answer`` returns what the server sends after each other line of a client.
    """

    async def serve(reader, writer):
        writer.write(greeting)
        inboxes: dict[bytes, bytes] = {}
        with contextlib.suppress(OSError):
            while line := await reader.readline():
                if line.startswith(b"PING"):
                    writer.write(b"PONG\r\n")
                else:
                    writer.write(answer(line, inboxes))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


async def refusal(url, timeout=1.0):
    """Return the error of a failed connection."""
    with pytest.raises(StartupError) as caught:
        await connect(CommonSettings(nats_url=url, nats_connect_timeout=Duration(timeout)), "test")
    assert "\n" not in str(caught.value)
    return str(caught.value)


async def test_a_running_server_is_connected_to(shared_nats):
    client = await connect(CommonSettings(nats_url=shared_nats.url), "test")
    assert client.is_connected
    await client.close()


async def test_the_first_reachable_server_is_used(shared_nats):
    url = f"nats://127.0.0.1:{free_port()},{shared_nats.url}"
    client = await connect(CommonSettings(nats_url=url), "test")
    await client.close()


async def test_a_refused_connection_is_a_startup_error():
    """The message has the address and a remedy."""
    url = f"nats://127.0.0.1:{free_port()}"
    message = await refusal(url, 0.3)
    assert message.startswith(f"cannot reach NATS at {url}: ")
    assert message.endswith("Start it, or set NATS_URL")


async def test_a_silent_server_times_out():
    """Within the configured timeout."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"nats://127.0.0.1:{silent.getsockname()[1]}"
        assert "cannot reach NATS" in await refusal(url, 0.3)


@pytest.mark.parametrize(
    "greeting",
    [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"INFO {broken\r\n", b"SSH-2.0-x\r\n", b"\xff\xfe\r\n"],
)
async def test_a_server_that_does_not_speak_nats_is_refused(greeting):
    async with pretender(greeting) as port:
        assert "cannot reach NATS" in await refusal(f"nats://127.0.0.1:{port}", 0.5)


@pytest.mark.parametrize("version", ["2.10.22", "2.13.9", "1.4.1", "0.0.0"])
async def test_an_old_server_is_refused(version):
    """The message has its version and the minimum."""
    greeting = (
        f'INFO {{"server_id":"x","version":"{version}","headers":true,'
        f'"max_payload":1048576,"proto":1}}\r\n'
    )
    async with pretender(greeting.encode()) as port:
        message = await refusal(f"nats://127.0.0.1:{port}", 60)
    assert message == f"NATS {version} is too old: Tailrace needs 2.14 or later"


async def test_a_server_without_jetstream_is_refused(tmp_path):
    """The message has a remedy."""
    with NatsServer(tmp_path, jetstream=False) as server:
        message = await refusal(server.url, 60)
    assert "JetStream off" in message
    assert "-js" in message


async def test_a_server_without_jetstream_in_a_cluster_is_waited_for():
    """Its other servers may have JetStream on, and be slower to start."""
    asked = 0

    def answer(line: bytes, inboxes: dict[bytes, bytes]) -> bytes:
        nonlocal asked
        match line.split():
            case [b"SUB", subject, sid]:
                inboxes[subject.removesuffix(b".*")] = sid
            case [b"PUB", b"$JS.API.INFO", inbox, _]:
                asked += 1
                sid = inboxes[inbox.rpartition(b".")[0]]
                if asked == 1:
                    status = b"NATS/1.0 503\r\n\r\n"
                    size = len(status)
                    return b"HMSG %b %b %d %d\r\n%b\r\n" % (inbox, sid, size, size, status)
                return b"MSG %b %b 2\r\n{}\r\n" % (inbox, sid)
        return b""

    greeting = (
        b'INFO {"server_id":"x","version":"2.15.1","headers":true,"cluster":"c",'
        b'"max_payload":1048576,"proto":1}\r\n'
    )
    async with pretender(greeting, answer) as port:
        settings = CommonSettings(nats_url=f"nats://127.0.0.1:{port}")
        client = await connect(settings, "test")
        await client.close()
    assert asked == 2


@pytest.mark.parametrize(
    "url", ["", "nats://", "127.0.0.1:port", "nats://a:b:c", "http://127.0.0.1:1", "nats://[::1"]
)
async def test_an_invalid_address_is_refused(url):
    await refusal(url, 0.3)


async def test_credentials_are_not_part_of_the_error():
    """The error is logged."""
    port = free_port()
    message = await refusal(f"nats://me:secret@127.0.0.1:{port},nats://token@127.0.0.1:{port}", 0.3)
    assert "secret" not in message
    assert "token" not in message
    assert f"127.0.0.1:{port}" in message


async def test_a_line_break_in_a_header_value_injects_no_header(site):
    """A header's value may be text of a client."""
    subject = site.subjects.log("t", "1")
    sent = {"Tailrace-State": "running 0", "X": "ein Wörtchen ", "Y": "a\r\nNats-Rollup: all"}
    sequence = await site.jetstream.publish(subject, b"[]", sent)
    message = await site.jetstream.get(site.events, {"seq": sequence})
    assert message.headers["Tailrace-State"] == "running 0"
    assert message.headers["X"] == "ein Wörtchen"
    assert "Nats-Rollup" not in message.headers
    assert message.headers["Y"].startswith("a")
