"""Secrets on real workers: nodes get them, and nothing else ever does."""

import base64
import json
import urllib.parse
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.generators.workflows import definition
from harness.http.scripted_server import ScriptedServer
from harness.nats.server import NatsServer
from harness.nats.wiretap import Wiretap, wiretap
from harness.processes.installation import Installation
from tailrace_shared.execution.events import StepFailed, StepLogged, StepRetrying
from tailrace_shared.execution.state import fold

SECRET = 'pa$$/w+rd "quoted" n0t-for-clients'
PIECES = ("w+rd", "n0t-for", urllib.parse.quote_plus('w+rd "')[1:], "bjB0LWZvci1", "4wdC1mb3It")
"""Parts of the secret, and of what Base64 makes of it: none may be anywhere."""


@pytest.fixture
async def tap(site: Installation, nats_server: NatsServer) -> AsyncIterator[Wiretap]:
    """Everything that passes through NATS."""
    async with wiretap(site, nats_server.folder / "store") as opened:
        yield opened


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """A server that sends back all that it gets."""
    scripted = ScriptedServer()

    def echo(line: str, headers: dict[str, str], body: bytes) -> bytes:
        answer = json.dumps({"line": line, "headers": headers, "body": body.decode()}).encode()
        status = 200 if "/ok" in line else 503
        return (
            f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\nconnection: close\r\n"
            f"x-echo: {headers.get('x-key', '')}\r\ncontent-length: {len(answer)}\r\n\r\n"
        ).encode() + answer

    scripted.respond = echo
    yield scripted
    scripted.close()


def leaks(kind: str, **fields: Any) -> dict[str, Any]:
    """Return a node that is given the secret."""
    with_ = {"secret": "${secrets.token}", **fields.pop("with_", {})}
    return {"type": f"leak.{kind}", "with": with_, **fields}


LEAKS = {
    "output": leaks("output"),
    "large": leaks("output", with_={"size": 400_000}),
    "thread": leaks("thread"),
    "report": leaks("report"),
    "error": leaks("error", retry={"max_attempts": 3, "initial": "10ms"}),
    "actor": leaks("actor", retry={"max_attempts": 2, "initial": "10ms"}),
    "async_actor": leaks("async_actor"),
    "each": {"type": "map", "with": {"for_each": "[1, 2]", "do": leaks("output")}},
    "after": {
        "type": "log",
        "with": {"message": "${nodes.output.output} ${nodes.error.error}"},
        "needs": ["output", "error"],
        "join": "all_done",
    },
    "wrong": {"type": "leak.output", "with": {"secret": "${secrets.token}", "unknown": 1}},
}


async def nowhere(tap: Wiretap, *logs: str) -> None:
    """Check that no piece of the secret is anywhere."""
    # What surely is there is found: the definition names its secret.
    found = {place for place, _ in await tap.places_of("${secrets.")}
    assert len(found) > 1
    assert "the wire" in found
    assert await tap.places_of(SECRET, *PIECES) == []
    for log in logs:
        assert [piece for piece in (SECRET, *PIECES) if piece in log] == []


async def test_a_secret_that_a_node_leaks_is_not_recorded(site: Installation, tap: Wiretap):
    """The node returns, raises, reports or logs it, in pieces of any size."""
    worker = site.worker(nodes="leaky_functions", secret_token=SECRET)
    execution = await site.begin(LEAKS)
    state = fold(await site.finished(execution))
    await site.outputs.fetch(state)
    masked = state.steps["output"].output
    assert (masked["value"], masked["***"][0]["deep"][3]) == ("***", "prefix***suffix")
    assert state.steps["large"].output_ref is not None
    assert state.steps["large"].output["value"] == "***"
    assert [state.steps[f"each[{i}]"].output["value"] for i in range(2)] == ["***"] * 2
    assert state.steps["actor"].output["***"][0] == "***"
    assert state.steps["wrong"].error is not None
    assert worker.stop() == 0
    log = worker.log_text
    assert log.count("***") > 10
    await nowhere(tap, log)


async def test_error_messages_for_people_stay_readable(site: Installation):
    """Only the secret itself is replaced."""
    site.worker(nodes="leaky_functions", secret_token=SECRET)
    events = await site.finished(await site.begin({"a": LEAKS["error"]}))
    errors = [e.data.error for e in events if isinstance(e, StepRetrying | StepFailed)]
    assert errors[0] == "cannot use ***"
    assert errors[1].startswith("ValueError: ['***', ")
    assert errors[2] == "RuntimeError: " + "x" * (4096 - len("RuntimeError: "))


async def test_requests_carry_secrets_and_their_answers_are_redacted(
    site: Installation, tap: Wiretap, server: ScriptedServer
):
    """Secrets are in headers, the URL, its user, the query and the body."""
    worker = site.worker(http_allow="127.0.0.0/8", secret_token=SECRET)
    sent = {
        "method": "POST",
        "url": f"{server.url}/ok/${{secrets.token}}",
        "query": {"q": "${secrets.token}"},
        "headers": {"x-key": "${secrets.token}", "authorization": "Bearer ${secrets.token}"},
        "json": {"deep": ["${secrets.token}"]},
    }
    nodes = {
        "sent": {"type": "http", "with": sent},
        "refused": {
            "type": "http",
            "with": {**sent, "url": f"{server.url}/no/${{secrets.token}}"},
            "retry": {"max_attempts": 2, "initial": "10ms"},
        },
        "unreachable": {"type": "http", "with": {"url": "http://127.0.0.1:1/${secrets.token}"}},
        "no_url": {"type": "http", "with": {"url": "http://${secrets.token}/"}},
    }
    state = fold(await site.finished(await site.begin(nodes)))
    assert {step.status for step in state.steps.values()} >= {"success", "error"}
    line, headers, body = next(sent for sent in server.requests if "POST /ok" in sent[0])
    assert json.loads(body) == {"deep": [SECRET]}
    assert (headers["x-key"], headers["authorization"]) == (SECRET, f"Bearer {SECRET}")
    assert urllib.parse.quote_plus(SECRET[4:9]) in line
    echoed = state.steps["sent"].output
    assert echoed["headers"]["x-echo"] == "***"
    assert json.loads(echoed["body"]["body"]) == {"deep": ["***"]}
    assert state.steps["refused"].error is not None
    assert "unexpected status 503" in state.steps["refused"].error
    assert worker.stop() == 0
    await nowhere(tap, worker.log_text)


async def test_basic_credentials_that_a_server_echoes_are_replaced(
    site: Installation, tap: Wiretap, server: ScriptedServer
):
    """A password in a URL becomes Base64, beginning at any byte of it."""
    worker = site.worker(http_allow="127.0.0.0/8", secret_password="n0t-for-clients")
    nodes = {
        user: {
            "type": "http",
            "with": {"url": f"{server.url.replace('//', f'//{user}:${{secrets.password}}@')}/ok"},
        }
        for user in ("a", "bb", "ccc")
    }
    state = fold(await site.finished(await site.begin(nodes)))
    for user, step in state.steps.items():
        seen = step.output["body"]["headers"]["authorization"]
        assert seen.startswith("Basic ")
        assert "***" in seen
        credentials = base64.b64encode(f"{user}:n0t-for-clients".encode()).decode()
        assert (f"Basic {credentials}", {}, b"") not in server.requests
        assert any(
            headers["authorization"] == f"Basic {credentials}" for _, headers, _ in server.requests
        )
    assert worker.stop() == 0
    await nowhere(tap, worker.log_text)


async def test_a_worker_that_dies_with_a_secret_leaves_none_of_it(site: Installation, tap: Wiretap):
    """Its earlier reports were redacted; the next worker looks the secret up again."""
    first = site.worker(nodes="leaky_functions", secret_token=SECRET)
    execution = await site.begin({"a": leaks("crash")})
    await site.until(
        execution, lambda events: any(isinstance(event, StepLogged) for event in events)
    )
    second = site.worker(nodes="leaky_functions", secret_token=SECRET)
    state = fold(await site.finished(execution))
    assert (state.status, state.steps["a"].output) == ("completed", len(SECRET))
    assert state.steps["a"].crashes == 1
    await nowhere(tap, first.log_text, second.log_text)


async def test_a_missing_secret_fails_its_step(site: Installation):
    """The error has its name and the stores that were searched."""
    site.worker()
    nodes = {"a": {"type": "http", "with": {"url": "http://x/${secrets.missing}"}}}
    state = fold(await site.finished(await site.begin(nodes)))
    assert state.steps["a"].error == (
        "secret 'missing' does not exist: looked for files, but TAILRACE_SECRETS_DIR is not set, "
        "the variable TAILRACE_SECRET_MISSING"
    )


async def test_a_rotated_file_counts_from_the_next_attempt_on(
    site: Installation, tmp_path: Path, server: ScriptedServer
):
    """No worker is started anew for it."""
    folder = tmp_path / "secrets"
    folder.mkdir()
    (folder / "token").write_text("first-value\n")
    site.worker(http_allow="127.0.0.0/8", secrets_dir=str(folder))
    call = {
        "type": "http",
        "with": {"url": f"{server.url}/ok", "headers": {"x-key": "${secrets.token}"}},
    }
    workflow = await site.store(definition({"a": call}))
    await site.finished(await site.start(workflow))
    (folder / "token").write_text("second-value\n")
    await site.finished(await site.start(workflow))
    assert [headers["x-key"] for _, headers, _ in server.requests] == [
        "first-value",
        "second-value",
    ]
