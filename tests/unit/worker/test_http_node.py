"""The http node against a real server, and what it refuses to reach."""

import gzip
import ipaddress
import socket

import msgspec
import pytest

from harness.http.scripted_server import ScriptedServer
from tailrace_worker.nodes.http import (
    MAX_RESPONSE_BYTES,
    GuardedBackend,
    make_http_node,
    parse_networks,
)
from tailrace_worker.nodes.node import NodeFailedError

LOCAL = "127.0.0.0/8"


class Context:
    """As much of a ``ctx`` as the node asks for."""

    idempotency_key = "e1:ship"


@pytest.fixture
def server():
    """A server that answers as a test says."""
    scripted = ScriptedServer()
    yield scripted
    scripted.close()


def answer(status=200, body=b"", **headers):
    """Return the bytes of a response."""
    lines = [f"HTTP/1.1 {status} X", f"content-length: {len(body)}", "connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def answers(server, *args, **headers):
    """Have the server give the same answer always."""
    server.respond = lambda *_: answer(*args, **headers)


async def send(url, allowed=LOCAL, **parameters):
    """Send one request through a node of its own."""
    http = make_http_node(parse_networks(allowed))
    return await http(Context(), url, **parameters)


async def failure_of(url, allowed=LOCAL, **parameters):
    """Return how a request fails."""
    with pytest.raises(NodeFailedError) as caught:
        await send(url, allowed, **parameters)
    return caught.value


class TestRequests:
    """What goes out."""

    async def test_a_get_is_a_get(self, server):
        """Without a body, and without a key."""
        answers(server, 200, b"hi", content_type="text/plain")
        output = await send(f"{server.url}/a?b=c")
        assert (output["status"], output["body"]) == (200, "hi")
        assert output["headers"]["content-type"] == "text/plain"
        ((line, headers, body),) = server.requests
        assert (line, body) == ("GET /a?b=c HTTP/1.1", b"")
        assert "idempotency-key" not in headers

    @pytest.mark.parametrize("value", [{"a": [1, "é"]}, [], "text", 0, False])
    async def test_json_is_sent_as_json(self, server, value):
        """Any JSON but null."""
        answers(server)
        await send(server.url, method="POST", json=value)
        ((_, headers, body),) = server.requests
        assert headers["content-type"] == "application/json"
        assert msgspec.json.decode(body) == value

    async def test_a_body_is_sent_as_it_is(self, server):
        """In UTF-8, with the headers that are given."""
        answers(server)
        await send(server.url, method="PUT", body="<é/>", headers={"Content-Type": "text/xml"})
        ((_, headers, body),) = server.requests
        assert (headers["content-type"], body) == ("text/xml", "<é/>".encode())

    async def test_a_body_beside_json_fails(self, server):
        """One of them would be dropped in silence."""
        error = await failure_of(server.url, method="POST", json=1, body="x")
        assert (str(error), error.retryable) == ("a request takes json or body, not both", False)
        assert server.requests == []

    async def test_the_query_joins_the_one_in_the_url(self, server):
        """Names are escaped, lists repeat."""
        answers(server)
        await send(f"{server.url}/?a=1", query={"b c": "&", "d": [1, 2], "e": True})
        ((line, _, _),) = server.requests
        assert line == "GET /?a=1&b+c=%26&d=1&d=2&e=true HTTP/1.1"

    @pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "post"])
    async def test_a_request_with_effects_carries_the_steps_key(self, server, method):
        """The same for every attempt, unless the definition gives its own."""
        answers(server)
        await send(server.url, method=method)
        await send(server.url, method=method, headers={"Idempotency-Key": "mine"})
        keys = [headers["idempotency-key"] for _, headers, _ in server.requests]
        assert keys == ["e1:ship", "mine"]
        assert server.requests[0][0].startswith(method.upper())

    async def test_a_header_cannot_bring_another(self, server):
        """A line break in a value would (CWE-113)."""
        await failure_of(server.url, headers={"x": "1\r\ny: 2"})
        assert [headers for _, headers, _ in server.requests if headers] == []

    async def test_cookies_are_not_kept(self, server):
        """The next request may be another tenant's."""
        answers(server, set_cookie="session=secret")
        http = make_http_node(parse_networks(LOCAL))
        await http(Context(), server.url)
        await http(Context(), server.url)
        assert ["cookie" in headers for _, headers, _ in server.requests] == [False, False]

    async def test_proxies_of_the_environment_are_ignored(self, server, monkeypatch):
        """Through one, the check of addresses would be void."""
        answers(server)
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")
        assert (await send(server.url))["status"] == 200


class TestResponses:
    """What comes back."""

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
    async def test_the_body_is_json_where_it_is_json(self, server, content_type, body, value):
        """And text otherwise, always such that it can be written to the log."""
        answers(server, 200, body, content_type=content_type)
        output = await send(server.url)
        assert output["body"] == value
        msgspec.json.encode(output)

    @pytest.mark.parametrize("status", [200, 201, 204, 301, 304, 399])
    async def test_a_status_below_400_is_a_success(self, server, status):
        """A redirect without a place to go is one too."""
        answers(server, status)
        assert (await send(server.url))["status"] == status

    @pytest.mark.parametrize(
        ("status", "retryable"),
        [(400, False), (404, False), (408, True), (425, True), (429, True), (500, True)],
    )
    async def test_an_error_status_fails(self, server, status, retryable):
        """For good, where the same request will not fare better."""
        answers(server, status)
        error = await failure_of(server.url)
        assert str(error) == f"GET {server.url}: unexpected status {status}"
        assert error.retryable == retryable

    @pytest.mark.parametrize("expected", [404, [200, 404]])
    async def test_expected_statuses_take_the_place_of_the_rule(self, server, expected):
        """One, or several."""
        answers(server, 404)
        assert (await send(server.url, expect_status=expected))["status"] == 404
        answers(server, 201)
        assert not (await failure_of(server.url, expect_status=expected)).retryable

    async def test_the_largest_response_is_taken_and_one_byte_more_is_not(self, server):
        """It must fit an event."""
        answers(server, 200, b"x" * MAX_RESPONSE_BYTES)
        assert len((await send(server.url))["body"]) == MAX_RESPONSE_BYTES
        answers(server, 200, b"x" * (MAX_RESPONSE_BYTES + 1))
        error = await failure_of(server.url)
        assert (f"larger than {MAX_RESPONSE_BYTES}" in str(error), error.retryable) == (True, False)

    async def test_a_compressed_response_is_measured_inflated(self, server):
        """And never inflated further than it is taken."""
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

    async def test_an_encoding_that_was_not_asked_for_fails(self, server):
        """Nor does a body that is not what it says."""
        answers(server, 200, b"x", content_encoding="br")
        assert str(await failure_of(server.url)) == "the response has an unsupported encoding: 'br'"
        answers(server, 200, b"plain", content_encoding="gzip")
        assert "incorrect header check" in str(await failure_of(server.url))
        answers(server, 200, gzip.compress(b"whole")[:-9], content_encoding="gzip")
        assert "ends in the middle" in str(await failure_of(server.url))
        answers(server, 200, b"", content_encoding="gzip")
        assert (await send(server.url))["body"] == ""

    async def test_redirects_are_followed_five_times(self, server):
        """The sixth is a loop."""

        def respond(line, *_):
            left = int(line.split()[1].strip("/"))
            return answer(302, location=f"/{left - 1}") if left else answer(200, b"there")

        server.respond = respond
        assert (await send(f"{server.url}/5"))["body"] == "there"
        assert "redirects" in str(await failure_of(f"{server.url}/6"))

    async def test_a_connection_that_breaks_can_be_tried_again(self, server):
        """In the middle of the answer, or before it."""
        server.respond = lambda *_: b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"
        assert (await failure_of(server.url)).retryable
        server.respond = lambda *_: b""
        assert (await failure_of(server.url)).retryable
        server.respond = lambda *_: b"SSH-2.0-x\r\n"
        assert (await failure_of(server.url)).retryable

    @pytest.mark.parametrize("url", ["", "nowhere", "file:///etc/passwd", "http://", "http://[::"])
    async def test_what_is_no_http_url_fails(self, url):
        """In a sentence with the URL."""
        assert f"GET {url}: " in str(await failure_of(url))


class TestAddresses:
    """By default only public addresses are reached (CWE-918)."""

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
            *("[64:ff9b::7f00:1]", "[64:ff9b::10.0.0.1]", "[2002:7f00:1::]", "[::127.0.0.1]"),
        ],
    )
    async def test_an_address_that_is_not_public_is_refused(self, server, host):
        """Nothing is sent, and another attempt would not help."""
        port = server.url.rpartition(":")[2]
        error = await failure_of(f"http://{host}:{port}/", allowed="")
        assert not error.retryable
        assert "TAILRACE_HTTP_ALLOW" in str(error)
        assert server.requests == []

    async def test_a_name_with_one_address_that_is_not_public_is_refused(self, monkeypatch):
        """Whichever of them would have been tried first."""
        backend = GuardedBackend([])

        async def resolve(_host, _port):
            return ["93.184.216.34", "10.0.0.1"]

        monkeypatch.setattr("tailrace_worker.nodes.http._resolve", resolve)
        with pytest.raises(Exception, match=r"10\.0\.0\.1, which is not a public address"):
            await backend.connect_tcp("rebound.example", 80)

    async def test_an_octal_address_is_refused_too(self, server):
        """By httpx, which knows only one way to read it."""
        port = server.url.rpartition(":")[2]
        assert "Invalid IPv4 address" in str(await failure_of(f"http://0177.0.0.1:{port}/", ""))
        assert server.requests == []

    @pytest.mark.parametrize(
        "address", ["93.184.216.34", "8.8.8.8", "2606:4700::1111", "64:ff9b::808:808"]
    )
    def test_public_addresses_are_allowed(self, address):
        """Told without reaching for them."""
        assert GuardedBackend([])._is_allowed(address)

    def test_an_allowed_network_is_allowed(self):
        """However the address is written."""
        backend = GuardedBackend(parse_networks("127.0.0.0/8, ::1/128"))
        assert all(map(backend._is_allowed, ["127.0.0.1", "::ffff:127.0.0.1", "::1"]))
        assert not any(map(backend._is_allowed, ["10.0.0.1", "::2", "fe80::1%eth0"]))

    async def test_a_redirect_to_a_refused_address_is_refused(self, server):
        """The check is made where the connection is made."""
        other = ScriptedServer()
        other.respond = lambda *_: answer(200, b"secret")
        target = other.url.replace("127.0.0.1", "127.0.0.2")
        answers(server, 302, location=target)
        error = await failure_of(server.url, allowed="127.0.0.1/32")
        other.close()
        assert (error.retryable, "127.0.0.2" in str(error)) == (False, True)
        assert len(server.requests) == 1
        assert other.requests == []

    async def test_no_local_socket_is_reached(self, tmp_path):
        """No URL names one, but httpcore has a way."""
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(tmp_path / "s"))
            listener.listen()
            with pytest.raises(Exception, match="local socket"):
                await GuardedBackend([]).connect_unix_socket(str(tmp_path / "s"))

    async def test_a_name_that_does_not_resolve_can_be_tried_again(self):
        """DNS may be back by then."""
        error = await failure_of("http://no-such-host.invalid/", allowed="")
        assert error.retryable
        assert "no-such-host.invalid" in str(error)

    def test_networks_are_read_from_cidr(self):
        """Separated by commas, as in the setting."""
        assert parse_networks(" 10.0.0.0/8 ,fd00::/8,") == [
            ipaddress.ip_network("10.0.0.0/8"),
            ipaddress.ip_network("fd00::/8"),
        ]
        for text in ("10.0.0.1/8", "x", "10.0.0.0/33"):
            with pytest.raises(ValueError, match=r"not appear|host bits"):
                parse_networks(text)


async def test_headers_of_a_definition_stay_behind_at_a_redirect_to_another_origin(server):
    """Whoever a server points to is not whom the definition trusts."""
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


async def test_headers_of_a_definition_go_along_at_a_redirect_within_an_origin(server):
    """The same server may move what it has."""

    def respond(line, _headers, _body):
        return answer(307, location="/there") if "/here" in line else answer(200, b"ok")

    server.respond = respond
    await send(f"{server.url}/here", headers={"x-api-key": "for the first"})
    assert server.requests[1][1]["x-api-key"] == "for the first"
