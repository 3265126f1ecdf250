"""The http node against a real server, and the addresses that it refuses."""

import asyncio
import contextlib
import gzip
import ipaddress
import socket
import subprocess
import sys
import time
from typing import Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.http.scripted_server import ScriptedServer
from tailrace_worker.nodes.exchange.addresses import (
    GuardedBackend,
    effective_address,
    parse_networks,
)
from tailrace_worker.nodes.exchange.response import MAX_RESPONSE_BYTES
from tailrace_worker.nodes.http import HttpLimits, make_http_node
from tailrace_worker.nodes.node import NodeFailedError

LOCAL = "127.0.0.0/8"


class Context:
    """The part of a ``ctx`` that the node uses."""

    idempotency_key = "e1:ship"

    def __init__(self, tenant="default"):
        self.tenant = tenant


@pytest.fixture
def server():
    """A server with scripted responses."""
    scripted = ScriptedServer()
    yield scripted
    scripted.close()


def answer(status=200, body=b"", **headers):
    """Return the bytes of a response."""
    lines = [f"HTTP/1.1 {status} X", f"content-length: {len(body)}", "connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def answers(server, *args, **headers):
    """Make the server send one response to every request."""
    server.respond = lambda *_: answer(*args, **headers)


async def send(url, allowed=LOCAL, **parameters):
    """Send one request through a new node."""
    http = make_http_node(HttpLimits(allowed))
    return await http(Context(), url, **parameters)


async def failure_of(url, allowed=LOCAL, **parameters):
    """Return the error of a request."""
    with pytest.raises(NodeFailedError) as caught:
        await send(url, allowed, **parameters)
    return caught.value


_REQUEST: Final = """
import asyncio, sys
import tailrace_worker.__main__
from tailrace_worker.nodes.http import HttpLimits, make_http_node

class Context:
    idempotency_key, tenant = "e1:ship", "default"

http = make_http_node(HttpLimits("127.0.0.0/8"))
known = set(sys.modules)
asyncio.run(http(Context(), sys.argv[1], method="POST", json={"a": 1}))
print(sorted(set(sys.modules) - known))
"""


def test_a_request_imports_nothing(server):
    """An import on the event loop stalls all executions."""
    answers(server, 200, b"{}", content_type="application/json")
    command = [sys.executable, "-c", _REQUEST, server.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")


class TestRequests:
    """The requests that the node sends."""

    async def test_a_get_is_a_get(self, server):
        """It has no body and no idempotency key."""
        answers(server, 200, b"hi", content_type="text/plain")
        output = await send(f"{server.url}/a?b=c")
        assert (output["status"], output["body"]) == (200, "hi")
        assert output["headers"]["content-type"] == "text/plain"
        ((line, headers, body),) = server.requests
        assert (line, body) == ("GET /a?b=c HTTP/1.1", b"")
        assert "idempotency-key" not in headers

    @pytest.mark.parametrize("value", [{"a": [1, "é"]}, [], "text", 0, False])
    async def test_json_is_sent_as_json(self, server, value):
        """Any JSON value except null."""
        answers(server)
        await send(server.url, method="POST", json=value)
        ((_, headers, body),) = server.requests
        assert headers["content-type"] == "application/json"
        assert msgspec.json.decode(body) == value

    async def test_a_body_is_sent_unchanged(self, server):
        """It is encoded in UTF-8 and has the given headers."""
        answers(server)
        await send(server.url, method="PUT", body="<é/>", headers={"Content-Type": "text/xml"})
        ((_, headers, body),) = server.requests
        assert (headers["content-type"], body) == ("text/xml", "<é/>".encode())

    async def test_a_body_beside_json_fails(self, server):
        """Otherwise one of them would be ignored."""
        error = await failure_of(server.url, method="POST", json=1, body="x")
        assert (str(error), error.retryable) == ("a request takes json or body, not both", False)
        assert server.requests == []

    async def test_the_query_joins_the_one_in_the_url(self, server):
        """Names are escaped, and a list repeats its name."""
        answers(server)
        await send(f"{server.url}/?a=1", query={"b c": "&", "d": [1, 2], "e": True})
        ((line, _, _),) = server.requests
        assert line == "GET /?a=1&b+c=%26&d=1&d=2&e=true HTTP/1.1"

    @pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "post"])
    async def test_a_request_with_effects_carries_the_steps_key(self, server, method):
        """The key is the same for every attempt, unless the definition sets one."""
        answers(server)
        await send(server.url, method=method)
        await send(server.url, method=method, headers={"Idempotency-Key": "mine"})
        keys = [headers["idempotency-key"] for _, headers, _ in server.requests]
        assert keys == ["e1:ship", "mine"]
        assert server.requests[0][0].startswith(method.upper())

    async def test_a_header_cannot_inject_another(self, server):
        """A line break in a value is refused (CWE-113)."""
        await failure_of(server.url, headers={"x": "1\r\ny: 2"})
        assert [headers for _, headers, _ in server.requests if headers] == []

    async def test_values_are_written_as_json_writes_them(self, server):
        """Null is left out."""
        answers(server)
        values = {"a": True, "b": None, "c": 5, "d": 1.5, "e": "True"}
        await send(server.url, headers=values, query={**values, "f": [1, None, False]})
        ((line, headers, _),) = server.requests
        assert line == "GET /?a=true&c=5&d=1.5&e=True&f=1&f=false HTTP/1.1"
        sent = {name: headers.get(name) for name in "abcde"}
        assert sent == {"a": "true", "b": None, "c": "5", "d": "1.5", "e": "True"}

    @pytest.mark.parametrize(
        ("parameters", "message"),
        [
            ({"expect_status": "200"}, "/expect_status must be a number or a list of numbers"),
            ({"expect_status": [200, 999]}, "/expect_status/1 must be an HTTP status"),
            ({"expect_status": True}, "/expect_status must be an HTTP status"),
            ({"expect_status": {"a": 1}}, "/expect_status must be an HTTP status"),
            ({"headers": {"x": ["a"]}}, "/headers/x must be a text, number, boolean or null"),
            ({"headers": {"x y": "a"}}, "/headers/x y is not the name of a header"),
            ({"headers": {"x": "a\nb"}}, "/headers/x must consist of printable ASCII characters"),
            ({"headers": {"x": "é"}}, "/headers/x must consist of printable ASCII characters"),
            ({"headers": "x"}, "/headers must be an object"),
            ({"query": {"f": {"a": True}}}, "/query/f must be a text, number, boolean, null or"),
            ({"query": {"f": [[1]]}}, "/query/f/0 must be a text, number, boolean or null"),
            ({"query": [1]}, "/query must be an object"),
            ({"body": {"a": 1}}, "/body must be a text; use json to send JSON"),
            ({"method": "BREW"}, "/method must be one of GET, "),
            ({"method": None}, "/method must be one of GET, "),
            ({"json": [float("nan")]}, "/json nan at /0 is not a JSON number"),
        ],
    )
    async def test_a_parameter_is_checked_before_the_effect(self, server, parameters, message):
        """It may come from an expression; another attempt would have the same value."""
        answers(server)
        error = await failure_of(server.url, **({"method": "POST"} | parameters))
        assert str(error).startswith(f"no request was sent: {message}")
        assert not error.retryable
        assert server.requests == []

    async def test_a_url_must_be_a_text(self):
        """None is no host."""
        assert "/url must be a text" in str(await failure_of(None))

    async def test_cookies_are_not_stored(self, server):
        """The next request may belong to another tenant."""
        answers(server, set_cookie="session=secret")
        http = make_http_node(HttpLimits(LOCAL))
        await http(Context(), server.url)
        await http(Context(), server.url)
        assert ["cookie" in headers for _, headers, _ in server.requests] == [False, False]

    async def test_proxies_of_the_environment_are_ignored(self, server, monkeypatch):
        """A proxy would bypass the address check."""
        answers(server)
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")
        assert (await send(server.url))["status"] == 200


class TestResponses:
    """The outputs that the node makes of responses."""

    @pytest.mark.parametrize(
        ("content_type", "body", "value"),
        [
            ("application/json", b'{"a": [1]}', {"a": [1]}),
            ("application/problem+json; charset=utf-8", b"[]", []),
            ("Application/JSON", b"null", None),
            ("application/json", b"{broken", "{broken"),
            ("application/json", b"", ""),
            ("application/json", b"[" * 5000, "[" * 5000),
            ("application/json", b"\xff", "�"),
            ("text/plain; charset=base64", b"a", "a"),
            ("text/plain; charset=punycode", b"\xff", "�"),
            ("text/plain", b"{}", "{}"),
            ("text/plain; charset=latin-1", "é".encode("latin-1"), "é"),
            ("text/plain; charset=nonsense", "é".encode(), "é"),
            ("application/octet-stream", b"\xff\x00", "�\x00"),
        ],
    )
    async def test_a_json_body_is_parsed(self, server, content_type, body, value):
        """Any other body becomes text that can be stored in the log."""
        answers(server, 200, body, content_type=content_type)
        output = await send(server.url)
        assert output["body"] == value
        msgspec.json.encode(output)

    @pytest.mark.parametrize(
        ("charset", "body"),
        [
            ("utf-8", b'\xef\xbb\xbf{"a": "\xc3\xa9"}'),
            ("utf-8", '{"a": "é"}'.encode("utf-16")),
            ("utf-8", '{"a": "é"}'.encode("utf-16-be")),
            ("utf-8", '{"a": "é"}'.encode("utf-16-le")),
            ("utf-8", '{"a": "é"}'.encode("utf-32")),
            ("iso-8859-1", '{"a": "é"}'.encode("latin-1")),
            ("iso-8859-1", '{"a": "é"}'.encode()),
            ("windows-1252", '{"a": "é"}'.encode("cp1252")),
            ("punycode", '{"a": "é"}'.encode()),
        ],
    )
    async def test_json_may_be_encoded_in_other_ways(self, server, charset, body):
        """RFC 8259 requires UTF-8 without a mark, but not every server knows that."""
        answers(server, 200, body, content_type=f"application/json; charset={charset}")
        assert (await send(server.url))["body"] == {"a": "é"}

    async def test_a_character_set_cannot_take_quadratic_time(self, server):
        """The server chooses it: punycode took 18 s for this body."""
        body = b"a" * (MAX_RESPONSE_BYTES // 2) + b"-" + b"9a" * (MAX_RESPONSE_BYTES // 4 - 1)
        answers(server, 200, body, content_type="text/plain; charset=punycode")
        began = time.process_time()
        assert (await send(server.url))["body"] == body.decode()
        assert time.process_time() - began < 5

    @pytest.mark.parametrize("status", [200, 201, 204, 301, 304, 399])
    async def test_a_status_below_400_is_a_success(self, server, status):
        """A redirect without a location is a success, too."""
        answers(server, status)
        assert (await send(server.url))["status"] == status

    @pytest.mark.parametrize(
        ("status", "retryable"),
        [(400, False), (404, False), (408, True), (425, True), (429, True), (500, True)],
    )
    async def test_an_error_status_fails(self, server, status, retryable):
        """It is not retried if the same request would fail again."""
        answers(server, status)
        error = await failure_of(server.url)
        assert str(error) == f"GET {server.url}: unexpected status {status}"
        assert error.retryable == retryable

    async def test_an_unexpected_status_explains_itself(self, server):
        """By the body of the response."""
        answers(server, 422, b'{"error": "no such sku"}', content_type="application/json")
        assert (await failure_of(server.url)).detail == '{"error":"no such sku"}'
        answers(server, 500, b"out of disk", content_type="text/plain")
        assert (await failure_of(server.url)).detail == "out of disk"

    @pytest.mark.parametrize("expected", [404, [200, 404]])
    async def test_expected_statuses_replace_the_default(self, server, expected):
        """One status, or several."""
        answers(server, 404)
        assert (await send(server.url, expect_status=expected))["status"] == 404
        answers(server, 201)
        assert not (await failure_of(server.url, expect_status=expected)).retryable

    async def test_a_response_may_have_the_maximum_size_and_no_byte_more(self, server):
        """It must fit into an event."""
        answers(server, 200, b"x" * MAX_RESPONSE_BYTES)
        assert len((await send(server.url))["body"]) == MAX_RESPONSE_BYTES
        answers(server, 200, b"x" * (MAX_RESPONSE_BYTES + 1))
        error = await failure_of(server.url)
        assert (f"larger than {MAX_RESPONSE_BYTES}" in str(error), error.retryable) == (True, False)

    async def test_the_limit_applies_to_the_decompressed_response(self, server):
        """The node never decompresses beyond the limit (CWE-409)."""
        answers(
            server,
            200,
            gzip.compress(b'{"a": 1}'),
            content_encoding="gzip",
            content_type="application/json",
        )
        assert (await send(server.url))["body"] == {"a": 1}
        answers(server, 200, gzip.compress(b"\0" * 100_000_000), content_encoding="gzip")
        assert "larger than" in str(await failure_of(server.url))

    async def test_gzip_may_have_several_members(self, server):
        """RFC 1952 allows it; the rest would be lost in silence."""
        parts = gzip.compress(b'{"ok":') + gzip.compress(b"true}") + bytes(8)
        headers = {"content_encoding": "gzip", "content_type": "application/json"}
        answers(server, 200, parts, **headers)
        assert (await send(server.url))["body"] == {"ok": True}
        answers(server, 200, gzip.compress(b'{"ok":') + b"garbage", **headers)
        assert "incorrect header check" in str(await failure_of(server.url))
        answers(server, 200, gzip.compress(b"") * 5000, **headers)
        assert "more than 1000 members" in str(await failure_of(server.url))
        half = gzip.compress(b"x" * (MAX_RESPONSE_BYTES // 2 + 1))
        answers(server, 200, half * 2, **headers)
        assert "larger than" in str(await failure_of(server.url))

    async def test_an_unsupported_encoding_fails(self, server):
        """So does a body that does not match its encoding."""
        answers(server, 200, b"x", content_encoding="br")
        assert str(await failure_of(server.url)) == "the response has an unsupported encoding: 'br'"
        answers(server, 200, b"plain", content_encoding="gzip")
        assert "incorrect header check" in str(await failure_of(server.url))
        answers(server, 200, gzip.compress(b"whole")[:-9], content_encoding="gzip")
        assert "ends in the middle" in str(await failure_of(server.url))
        answers(server, 200, b"", content_encoding="gzip")
        assert (await send(server.url))["body"] == ""

    async def test_redirects_are_followed_five_times(self, server):
        """The sixth redirect fails."""

        def respond(line, *_):
            left = int(line.split()[1].strip("/"))
            return answer(302, location=f"/{left - 1}") if left else answer(200, b"there")

        server.respond = respond
        assert (await send(f"{server.url}/5"))["body"] == "there"
        assert "redirects" in str(await failure_of(f"{server.url}/6"))

    async def test_a_broken_connection_is_retryable(self, server):
        """It may break before the response or in its middle."""
        server.respond = lambda *_: b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"
        assert (await failure_of(server.url)).retryable
        server.respond = lambda *_: b""
        assert (await failure_of(server.url)).retryable
        server.respond = lambda *_: b"SSH-2.0-x\r\n"
        assert (await failure_of(server.url)).retryable

    @pytest.mark.parametrize("url", ["", "nowhere", "file:///etc/passwd", "http://", "http://[::"])
    async def test_an_invalid_url_fails(self, url):
        """The error contains the URL."""
        assert f"GET {url}: " in str(await failure_of(url))


class TestAddresses:
    """By default the node reaches only public addresses (CWE-918)."""

    @pytest.mark.parametrize(
        "host",
        [
            *("127.0.0.1", "127.1.2.3", "localhost", "LOCALHOST", "0.0.0.0", "10.1.2.3"),
            *("192.168.1.1", "172.16.0.1", "169.254.169.254", "100.64.0.1", "224.0.0.1"),
            *("255.255.255.255", "240.0.0.1", "198.18.0.1", "192.0.2.1"),
            # Other ways to write 127.0.0.1, which the system's resolver understands.
            *("2130706433", "0x7f000001", "127.1", "0x7f.1", "0"),
            *("[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[fe80::1]", "[fc00::1]"),
            *("[fec0::1]", "[ff02::1]", "[2001:db8::1]"),
            # IPv6 addresses that come out at an IPv4 one.
            *("192.0.0.1", "192.0.0.192", "192.88.99.1", "168.63.129.16", "100.100.100.200"),
            *(
                "198.51.100.1",
                "203.0.113.1",
                "[3fff::1]",
                "[5f00::1]",
                "[100::1]",
                "[100:0:0:1::1]",
            ),
            *("[64:ff9b:1::808:808]", "[2001::1]", "[2001:2::1]", "[2001:20::1]", "[4000::1]"),
            *("[2606:4700::5efe:a00:1]", "[2606:4700::200:5efe:7f00:1]", "[::ffff:0:7f00:1]"),
            *("[64:ff9b::7f00:1]", "[64:ff9b::10.0.0.1]", "[2002:7f00:1::]", "[::127.0.0.1]"),
        ],
    )
    async def test_an_address_that_is_not_public_is_refused(self, server, host):
        """No request is sent, and the step is not retried."""
        port = server.url.rpartition(":")[2]
        error = await failure_of(f"http://{host}:{port}/", allowed="")
        assert not error.retryable
        assert "TAILRACE_HTTP_ALLOW" in str(error)
        assert server.requests == []

    async def test_a_name_with_one_address_that_is_not_public_is_refused(self, monkeypatch):
        """In any order of the addresses."""
        backend = GuardedBackend([])

        async def resolve(_host, _port):
            return ["93.184.216.34", "10.0.0.1"]

        monkeypatch.setattr("tailrace_worker.nodes.exchange.addresses._resolve", resolve)
        with pytest.raises(Exception, match=r"rebound\.example has an address") as caught:
            await backend.connect_tcp("rebound.example", 80)
        assert "10.0.0.1" not in str(caught.value)

    async def test_a_literal_address_is_named_once(self):
        """The caller knows it already."""
        error = await failure_of("http://10.1.2.3/", allowed="")
        assert "10.1.2.3 is not a public address: allow its network" in str(error)

    async def test_an_octal_address_is_refused_too(self, server):
        """Parsers differ on its meaning, so httpx rejects it."""
        port = server.url.rpartition(":")[2]
        assert "Invalid IPv4 address" in str(await failure_of(f"http://0177.0.0.1:{port}/", ""))
        assert server.requests == []

    @pytest.mark.parametrize(
        "address",
        ["93.184.216.34", "8.8.8.8", "2606:4700::1111", "64:ff9b::808:808", "2002:808:808::"],
    )
    def test_public_addresses_are_allowed(self, address):
        """The check itself does not connect."""
        assert GuardedBackend([])._is_allowed(address)

    @given(st.ip_addresses())
    def test_what_python_calls_private_is_refused(self, address):
        """Its tables are older than ours, but differ from version to version."""
        if GuardedBackend([])._is_allowed(str(address)):
            reached = effective_address(address)
            assert reached.is_global
            assert not reached.is_multicast

    def test_an_allowed_network_is_allowed(self):
        """In any notation of the address."""
        backend = GuardedBackend(parse_networks("127.0.0.0/8, ::1/128"))
        assert all(map(backend._is_allowed, ["127.0.0.1", "::ffff:127.0.0.1", "::1"]))
        assert not any(map(backend._is_allowed, ["10.0.0.1", "::2", "fe80::1%eth0"]))

    async def test_a_redirect_to_a_refused_address_is_refused(self, server):
        """The check applies to every connection."""
        other = ScriptedServer()
        other.respond = lambda *_: answer(200, b"secret")
        target = other.url.replace("127.0.0.1", "127.0.0.2")
        answers(server, 302, location=target)
        error = await failure_of(server.url, allowed="127.0.0.1/32")
        other.close()
        assert (error.retryable, "127.0.0.2" in str(error)) == (False, True)
        assert len(server.requests) == 1
        assert other.requests == []

    async def test_local_sockets_are_refused(self, tmp_path):
        """No URL can name one, but httpcore supports them."""
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(tmp_path / "s"))
            listener.listen()
            with pytest.raises(Exception, match="local socket"):
                await GuardedBackend([]).connect_unix_socket(str(tmp_path / "s"))

    async def test_a_name_that_does_not_resolve_is_retryable(self):
        """DNS may work again by the next attempt."""
        error = await failure_of("http://no-such-host.invalid/", allowed="")
        assert error.retryable
        assert "no-such-host.invalid" in str(error)

    def test_networks_are_read_from_cidr(self):
        """They are separated by commas, as in the setting."""
        assert parse_networks(" 10.0.0.0/8 ,fd00::/8,") == [
            ipaddress.ip_network("10.0.0.0/8"),
            ipaddress.ip_network("fd00::/8"),
        ]
        for text in ("10.0.0.1/8", "x", "10.0.0.0/33"):
            with pytest.raises(ValueError, match=r"not appear|host bits"):
                parse_networks(text)


async def test_a_redirect_to_another_origin_drops_the_definitions_headers(server):
    """The definition trusts only the server that it names."""
    other = ScriptedServer()
    try:
        answers(other, 200, b"ok")
        answers(server, 307, location=f"{other.url}/there")
        sent = {"x-api-key": "for the first", "authorization": "Bearer too"}
        output = await send(f"{server.url}/here", headers=sent, method="POST", json={"a": 1})
    finally:
        other.close()
    assert output["body"] == "ok"
    (_, first, _), (_, second, body) = server.requests[0], other.requests[0]
    assert first["x-api-key"] == "for the first"
    assert "x-api-key" not in second
    assert "authorization" not in second
    assert (second["content-type"], body) == ("application/json", b'{"a":1}')


async def test_a_redirect_within_an_origin_keeps_the_definitions_headers(server):
    """The same server may move its resources."""

    def respond(line, _headers, _body):
        return answer(307, location="/there") if "/here" in line else answer(200, b"ok")

    server.respond = respond
    await send(f"{server.url}/here", headers={"x-api-key": "for the first"})
    assert server.requests[1][1]["x-api-key"] == "for the first"


class TestLimits:
    """Requests that are slow do not hold up other tenants."""

    async def test_slow_responses_of_one_tenant_leave_connections_to_others(self):
        """A tenant alone gets half of them; its further requests wait without one."""
        http = make_http_node(HttpLimits(LOCAL, connections=4))
        async with dripping_server() as (url, opened):
            slow = [asyncio.create_task(http(Context("greedy"), url)) for _ in range(10)]
            await asyncio.wait_for(opened.reached(2), 30)
            quick = ScriptedServer()
            answers(quick)
            for _ in range(3):
                assert (await http(Context("other"), quick.url))["status"] == 200
            quick.close()
            assert opened.count == 2
            for task in slow:
                task.cancel()
            await asyncio.gather(*slow, return_exceptions=True)
            assert (await http(Context("greedy"), f"{url}/short"))["status"] == 200

    async def test_a_response_that_drips_ends_at_the_deadline(self):
        """Each byte comes in time, but not all."""
        http = make_http_node(HttpLimits(LOCAL, timeout_s=0.3))
        async with dripping_server() as (url, _):
            with pytest.raises(
                NodeFailedError, match=r"within 300ms \(TAILRACE_HTTP_TIMEOUT\)"
            ) as caught:
                await http(Context(), url)
        assert caught.value.retryable


class Counted:
    """Counts, and says when a number is reached."""

    def __init__(self):
        self.count = 0
        self._changed = asyncio.Condition()

    async def add(self):
        async with self._changed:
            self.count += 1
            self._changed.notify_all()

    async def reached(self, number):
        async with self._changed:
            await self._changed.wait_for(lambda: self.count >= number)


@contextlib.asynccontextmanager
async def dripping_server():
    """Run a server that sends a byte now and then, for ever; yield its URL and its connections."""
    opened = Counted()

    async def serve(reader, writer):
        line = await reader.readline()
        if b"/short" in line:
            writer.write(answer(200))
        else:
            await opened.add()
            writer.write(b"HTTP/1.1 200 X\r\ncontent-length: 100000\r\n\r\n")
            with contextlib.suppress(OSError):
                while not reader.at_eof():
                    writer.write(b"x")
                    await writer.drain()
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(reader.read(65536), 0.02)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", opened
    finally:
        server.close()
