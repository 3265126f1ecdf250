"""The parts of `tailrace up` that need no processes."""

import os
import socket
import sysconfig

import pytest

from tailrace.errors import StartError
from tailrace.local.child import describe_exit
from tailrace.local.console import Console
from tailrace.local.embedded_nats import Info, find_binary, version_of
from tailrace.local.ports import api_ports, nats_port
from tailrace.local.supervisor import MAX_DELAY_S, STABLE_AFTER_S, Backoff


def test_restart_delays_double_up_to_the_maximum() -> None:
    """A child that keeps ending soon is restarted with increasing delays, without a limit."""
    backoff = Backoff()

    pauses = [backoff.after(lifetime=0.1) for _ in range(8)]

    assert pauses == [0.5, 1, 2, 4, 8, 16, MAX_DELAY_S, MAX_DELAY_S]


def test_a_stable_child_resets_the_backoff() -> None:
    """Its end is unrelated to earlier ones."""
    backoff = Backoff()
    for _ in range(5):
        backoff.after(lifetime=0.1)

    assert backoff.after(STABLE_AFTER_S) == 0.5


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (0, "exit code 0"),
        (2, "exit code 2"),
        (-9, "SIGKILL"),
        (-11, "SIGSEGV"),
        (-200, "signal 200"),
    ],
)
def test_an_exit_is_described_by_its_signal(code: int, text: str) -> None:
    """A negative exit code becomes the name of the signal."""
    assert describe_exit(code) == text


def test_a_taken_default_nats_port_is_replaced() -> None:
    """Two systems on one machine, started without options, must both work."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken = listener.getsockname()[1]

        assert nats_port(None, default=taken) not in {0, taken}
        with pytest.raises(StartError, match="--nats-port"):
            nats_port(taken)


def test_free_ports_of_replicas_differ() -> None:
    """The kernel may return a port twice if it is released in between."""
    assert len(set(api_ports("127.0.0.1", 0, 20))) == 20


def test_a_missing_binary_is_a_one_line_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the extra and the alternative."""
    monkeypatch.setattr(sysconfig, "get_path", lambda _name: "/nowhere")
    monkeypatch.setenv("PATH", "/nowhere")

    with pytest.raises(StartError, match=r"extra `server`,.*--nats"):
        find_binary()


@pytest.mark.parametrize(
    ("version", "numbers"),
    [("2.14.0", (2, 14)), ("2.15.0-RC.1", (2, 15)), ("3.0", (3, 0)), ("dev", ())],
)
def test_versions_are_compared_as_numbers(version: str, numbers: tuple[int, ...]) -> None:
    """2.9 is older than 2.14, though not as text."""
    assert version_of(Info(version)) == numbers


def test_lines_after_the_reader_has_closed_are_dropped() -> None:
    """A closed pipe must not raise."""
    reading, writing = os.pipe()
    os.close(reading)
    console = Console(writing)

    console.say("hello")
    console.close()

    os.close(writing)
