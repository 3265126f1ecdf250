"""The command against a system that requires tokens."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.http.token_issuer import SECRET, token
from harness.processes.tailrace_command import TailraceCommand
from harness.processes.tailrace_up import TailraceUp

FLOW = "id: flow\nnodes: {a: {type: transform, with: {value: 1}}}\n"
SLOW = "id: slow\nnodes: {a: {type: delay, with: {duration: 60s}}}\n"


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TailraceUp]:
    """A `tailrace up --demo` that requires tokens, started with one for the examples."""
    environment = {
        "TAILRACE_AUTH": "jwt",
        "TAILRACE_AUTH_SECRET": SECRET,
        "TAILRACE_AUTH_LEEWAY": "0s",
        "TAILRACE_TOKEN": token(),
        "TAILRACE_SECRET_SERVICE": "for nodes only",
    }
    with TailraceUp(
        tmp_path_factory.mktemp("secured"), "--demo", environment=environment
    ) as running:
        yield running.wait_ready()


def _command(secured: TailraceUp, folder: Path, text: str) -> TailraceCommand:
    command = TailraceCommand(secured.url, folder)
    command.environment["TAILRACE_TOKEN"] = text
    return command


def test_a_run_from_start_to_end_with_a_token(secured: TailraceUp, tmp_path: Path) -> None:
    """Apply, run and watch, list; the examples are there, too."""
    tailrace = _command(secured, tmp_path, token())
    assert tailrace("apply", str(tailrace.write("flow.yaml", FLOW))).code == 0
    assert tailrace("run", "flow", "--watch").code == 0
    assert "flow" in tailrace("ls").stdout
    assert tailrace("run", "purchase-order", "--json").code == 1  # its input has to have a file
    assert "TAILRACE_AUTH_SECRET" not in _environment_of(secured, "tailrace_worker")


def _environment_of(running: TailraceUp, module: str) -> str:
    return Path(f"/proc/{running.child(module)}/environ").read_text(errors="replace")


def test_secrets_of_definitions_are_given_to_workers_only(secured: TailraceUp) -> None:
    """The API runs no nodes."""
    assert "TAILRACE_SECRET_SERVICE" in _environment_of(secured, "tailrace_worker")
    assert "TAILRACE_SECRET_SERVICE" not in _environment_of(secured, "tailrace_api")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "the API requires a token: set TAILRACE_TOKEN"),
        ("nonsense", "the token is malformed"),
        (token(exp=1), "the token has expired"),
        (token(scope="workflows:read"), "the token lacks the scope executions:read"),
        (token(org=None), "the token holds no organization: it has neither org nor orgs"),
    ],
)
def test_a_refusal_is_one_line(secured: TailraceUp, tmp_path: Path, text: str, reason: str) -> None:
    """The line has the reason but no part of the token; the exit code is 1."""
    tailrace = _command(secured, tmp_path, text)
    for arguments in (("ls",), ("show", "x"), ("watch", "x")):
        outcome = tailrace(*arguments)
        assert outcome.code == 1
        assert outcome.stderr == f"tailrace: {reason}\n"


def test_a_token_that_expires_while_one_watches(secured: TailraceUp, tmp_path: Path) -> None:
    """The watch ends with that reason, and the run continues."""
    tailrace = _command(secured, tmp_path, token())
    tailrace("apply", str(tailrace.write("slow.yaml", SLOW)))
    run = tailrace("run", "slow", "--json").json_lines[0]["execution_id"]
    short = _command(secured, tmp_path, token(exp=int(time.time()) + 4))
    outcome = short("watch", run)
    assert outcome.code == 1
    assert outcome.stderr.splitlines()[-1] == "tailrace: the token has expired"
    assert tailrace("cancel", run).code == 0


def test_no_token_is_in_the_output_of_the_system(secured: TailraceUp) -> None:
    """This includes the token that the system was started with."""
    assert SECRET not in secured.stderr()
    assert token().split(".")[0] not in secured.stderr()
