"""Requests, retries and errors of the client."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import msgspec
import pytest

from harness.http.scripted_server import ScriptedServer
from tailrace.client import Client
from tailrace.errors import Problem, RefusedError, UnreachableError
from tailrace.transport import Endpoint


def json_answer(document: Any, status: str = "200 OK") -> bytes:
    """Return a response with a JSON body."""
    body = msgspec.json.encode(document)
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status.encode(), len(body), body)


@pytest.fixture
def client(server: ScriptedServer) -> Iterator[Client]:
    """A client of the scripted server."""
    with Client(server.url, "secret") as client:
        yield client


def test_a_start_is_retried_with_the_same_key(client: Client, server: ScriptedServer) -> None:
    """The server may have started the run: the key makes the second request find it."""
    script = iter([b"", json_answer({"execution_id": "e1"}, "202 Accepted")])
    server.respond = lambda *_: next(script)

    assert client.run("flow", {"x": 1}) == {"execution_id": "e1"}

    (line, first, body), (_, second, again) = server.requests
    assert line == "POST /api/v1/workflows/flow/runs HTTP/1.1"
    assert first["idempotency-key"] == second["idempotency-key"]
    assert body == again == b'{"input":{"x":1}}'
    assert first["authorization"] == "Bearer secret"


def test_two_runs_have_two_keys(client: Client, server: ScriptedServer) -> None:
    """A key identifies one request."""
    server.respond = lambda *_: json_answer({"execution_id": "e1"}, "202 Accepted")

    client.run("flow")
    client.run("flow")

    keys = {headers["idempotency-key"] for _, headers, _ in server.requests}
    assert len(keys) == 2


@pytest.mark.parametrize(
    ("ask", "line", "body"),
    [
        (lambda c: c.cancel("e1", "enough"), "executions/e1/cancel", {"reason": "enough"}),
        (lambda c: c.pause("e1"), "executions/e1/pause", {}),
        (lambda c: c.resume("e1"), "executions/e1/resume", {}),
        (
            lambda c: c.resume("e1", "ask", decision="rejected", data={"a": 1}),
            "executions/e1/resume",
            {"node_id": "ask", "decision": "rejected", "data": {"a": 1}},
        ),
        (lambda c: c.rerun("e1", "ask"), "executions/e1/rerun", {"from_node": "ask"}),
        (
            lambda c: c.rerun("e1", failed=True, version="latest"),
            "executions/e1/rerun",
            {"failed": True, "version": "latest"},
        ),
        (
            lambda c: c.rerun_all({"tag": "t"}, dry_run=True),
            "executions/rerun",
            {"filter": {"tag": "t"}, "failed": False, "dry_run": True},
        ),
        (
            lambda c: c.cancel_all({"tag": "t"}, "enough"),
            "executions/cancel",
            {"filter": {"tag": "t"}, "reason": "enough", "dry_run": False},
        ),
        (lambda c: c.signal("po.ok", {"a": 1}), "triggers/po%2Eok", {"a": 1}),
    ],
)
def test_a_command_is_retried_with_the_same_key(
    client: Client,
    server: ScriptedServer,
    ask: Callable[[Client], Any],
    line: str,
    body: dict[str, Any],
) -> None:
    """A command that is accepted twice takes effect once."""
    script = iter([b"", json_answer({"execution_id": "e1", "matched": 1}, "202 Accepted")])
    server.respond = lambda *_: next(script)

    ask(client)

    (first_line, first, sent), (_, second, _) = server.requests
    assert first_line == f"POST /api/v1/{line} HTTP/1.1"
    assert msgspec.json.decode(sent) == body
    assert first["idempotency-key"] == second["idempotency-key"]


def test_a_problem_is_an_error_with_every_place(client: Client, server: ScriptedServer) -> None:
    """RFC 9457, with the places as the API lists them."""
    problem = {
        "type": "about:blank",
        "title": "Unprocessable Content",
        "status": 422,
        "detail": "the definition has 2 problems",
        "errors": [
            {"pointer": "/nodes/a/needs/0", "detail": "there is no node 'b'"},
            {"pointer": "", "detail": "too large"},
        ],
    }
    server.respond = lambda *_: json_answer(problem, "422 Unprocessable Content")

    with pytest.raises(RefusedError) as caught:
        client.validate({"id": "x"})

    assert caught.value.status == 422
    assert caught.value.problems == (
        Problem("/nodes/a/needs/0", "there is no node 'b'"),
        Problem("", "too large"),
    )
    assert str(caught.value) == (
        "the definition has 2 problems; /nodes/a/needs/0: there is no node 'b'; too large"
    )


def test_the_detail_of_a_single_problem_is_not_repeated(
    client: Client, server: ScriptedServer
) -> None:
    """The detail of such a problem is that of its place."""
    said = "an interval is at least 1s"
    problem = {"detail": said, "errors": [{"pointer": "/cron", "detail": said}]}
    server.respond = lambda *_: json_answer(problem, "422 Unprocessable Content")

    with pytest.raises(RefusedError) as caught:
        client.get("e1")

    assert str(caught.value) == f"/cron: {said}"
    assert caught.value.detail == said


def test_an_error_without_a_problem_document_has_a_message(
    client: Client, server: ScriptedServer
) -> None:
    """A proxy may respond with HTML."""
    server.respond = lambda *_: b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 6\r\n\r\n<html>"

    with pytest.raises(RefusedError, match="502 Bad Gateway"):
        client.get("e1")


def test_an_id_cannot_name_another_route(client: Client, server: ScriptedServer) -> None:
    """Dots, slashes and question marks stay inside their segment."""
    server.respond = lambda *_: json_answer({})

    client.get("../workflows?x")

    assert server.requests[0][0] == "GET /api/v1/executions/%2E%2E%2Fworkflows%3Fx HTTP/1.1"


def test_filters_that_are_not_given_are_not_sent(client: Client, server: ScriptedServer) -> None:
    """An empty status would be a status."""
    server.respond = lambda *_: json_answer({"runs": []})

    client.list("flow", limit=5)

    assert server.requests[0][0] == "GET /api/v1/executions?workflow_id=flow&limit=5 HTTP/1.1"


def test_an_unreachable_api_is_a_one_line_error() -> None:
    """The message names the URL and a remedy."""
    with (
        Client("http://127.0.0.1:9") as client,
        pytest.raises(UnreachableError, match=r"http://127.0.0.1:9.*tailrace up"),
    ):
        client.get("e1")


def test_an_error_that_is_a_sentence_is_quoted_without_its_period() -> None:
    """Another sentence follows it."""
    error = httpx.RemoteProtocolError("Server disconnected without sending a response.")
    message = str(Endpoint("http://127.0.0.1:9").unreachable(error))
    assert "without sending a response. Start it" in message


@pytest.mark.parametrize("url", ["", "localhost", "localhost:8080", "ftp://host", "http://"])
def test_an_unusable_url_is_named(url: str) -> None:
    """A missing scheme must not look like an API that is down."""
    with pytest.raises(UnreachableError, match="is not a URL of an API; write for example"):
        Client(url)


@pytest.mark.parametrize("token", ["hush\nhush", "hush\r\nX-A: b", "hush\x00", "hüsh", "a\thush"])
def test_a_token_that_http_cannot_carry_is_not_printed(token: str) -> None:
    """The HTTP library would quote it in its error."""
    with pytest.raises(UnreachableError, match="the token contains a line break") as caught:
        Client("http://127.0.0.1:1", token)
    assert "sh" not in str(caught.value).replace("another", "")
    with pytest.raises(UnreachableError, match="the organization contains"):
        Client("http://127.0.0.1:1", "t", organization="a\nb")


def test_a_line_break_after_a_token_is_no_part_of_it(server: ScriptedServer) -> None:
    """Editors add one at the end of a file."""
    server.respond = lambda *_: json_answer({})
    with Client(server.url, "secret\n") as client:
        client.get("e1")
    ((_, headers, _),) = server.requests
    assert headers["authorization"] == "Bearer secret"


@pytest.mark.parametrize(
    "url",
    [
        "http://ada:hush@127.0.0.1:1",
        "http://hush@127.0.0.1:1/",
        "http://ada:hu/hush@127.0.0.1:1",
        "http://ada:a@hush@127.0.0.1:1",
        "http://ada:hush@127.0.0.1:port",
        "http://ada:hush@[::1",
        "ftp://ada:hush@127.0.0.1:1",
        "ada:hush@127.0.0.1:1",
    ],
)
def test_credentials_in_a_url_are_not_printed(url: str) -> None:
    """Whether the URL is valid or not."""
    with pytest.raises(UnreachableError) as caught, Client(url) as client:
        client.get("e1")
    assert "hush" not in str(caught.value)
    assert "***@" in str(caught.value)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_json_lacks_is_refused_with_its_place(client: Client, number: float) -> None:
    """It would arrive as null."""
    with pytest.raises(ValueError, match=r"is not JSON at /input/rows/1/amount$"):
        client.run("flow", {"rows": [{"amount": 1.5}, {"amount": number}]})


@pytest.mark.parametrize("data", [[], 0, False, "", {}])
def test_an_empty_event_is_sent_as_it_is(client: Client, server: ScriptedServer, data: Any) -> None:
    """The API decides whether it is an event; only a missing one becomes ``{}``."""
    server.respond = lambda *_: json_answer({"matched": 0})
    client.signal("a.b", data)
    ((_, _, body),) = server.requests
    assert msgspec.json.decode(body) == data


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (None, ("http://api.example:1", "Bearer t", "org")),
        ("http://other:2", ("http://other:2", None, None)),
    ],
)
def test_the_environment_names_the_api_unless_the_caller_does(monkeypatch, url, expected):
    """A token of the environment goes to no other API."""
    for name, value in {"URL": "http://api.example:1", "TOKEN": "t", "ORGANIZATION": "org"}.items():
        monkeypatch.setenv(f"TAILRACE_{name}", value)
    with Client(url) as client:
        headers = client._transport.http.headers
        found = (
            client._transport.url,
            headers.get("authorization"),
            headers.get("x-organization-id"),
        )
    assert found == expected
