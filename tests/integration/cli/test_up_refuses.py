"""A failed start of `tailrace up` prints one line on stderr and exits with 2."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.nats.server import NatsServer
from harness.processes.ports import free_port
from harness.processes.tailrace_up import TailraceUp


@dataclass
class Speaker:
    """The first line that a server sends."""

    port: int
    greeting: bytes = b""


def refusal(*options: str, environment: dict[str, str] | None = None, folder: Path) -> str:
    """Start `tailrace up`, expect it to fail, and return its one line."""
    done = subprocess.run(
        [sys.executable, "-m", "tailrace", "up", *options],
        capture_output=True,
        text=True,
        timeout=100,
        cwd=folder,
        env={**os.environ, **(environment or {})},
        check=False,
    )
    assert done.returncode == 2
    assert not done.stdout
    (line,) = done.stderr.splitlines()
    return line


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port with a listener."""
    # Outside the ephemeral range, so that the port before it is free as well.
    free = free_port(2)
    with socket.create_server(("127.0.0.1", free + 1)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def speaker() -> Iterator[Speaker]:
    """A server that sends a given greeting on every connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        speaker = Speaker(listener.getsockname()[1])

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(speaker.greeting)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield speaker
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def test_a_taken_port(tmp_path: Path, taken_port: int) -> None:
    """The line names the port and the option, and no process was started."""
    line = refusal("--port", str(taken_port), folder=tmp_path)

    assert line == (
        f"tailrace: port {taken_port} on 127.0.0.1 is taken; choose another with --port"
    )
    assert not list(tmp_path.iterdir())


def test_a_taken_port_of_a_second_replica(tmp_path: Path, taken_port: int) -> None:
    """Ports go upward from --port; each of them is tried."""
    line = refusal("--port", str(taken_port - 1), "--api-replicas", "2", folder=tmp_path)

    assert f"port {taken_port} on 127.0.0.1 is taken" in line


def test_ports_beyond_the_last(tmp_path: Path) -> None:
    """There is no port 65536."""
    line = refusal("--port", "65535", "--api-replicas", "2", folder=tmp_path)

    assert "do not fit above port 65535" in line


def test_an_address_of_another_machine(tmp_path: Path) -> None:
    """A foreign address and an unresolvable name are refused."""
    for host in ("192.0.2.1", "no such host"):
        assert "is not an address of this machine" in refusal(
            "--host", host, "--port", str(free_port()), folder=tmp_path
        )


def test_a_taken_nats_port(tmp_path: Path, taken_port: int) -> None:
    """An explicitly requested port is not replaced."""
    line = refusal("--port", str(free_port()), "--nats-port", str(taken_port), folder=tmp_path)

    assert f"port {taken_port} on 127.0.0.1 is taken; choose another with --nats-port" in line


@pytest.mark.parametrize(
    ("data_dir", "reason"),
    [
        # Tests may run as root, whom permissions do not stop: a file in the way does.
        ("a-file", "File exists"),
        ("a-file/inside", "Not a directory"),
        ("/proc/tailrace", ""),
    ],
)
def test_a_folder_that_cannot_be_written(tmp_path: Path, data_dir: str, reason: str) -> None:
    """The line names the folder, the reason and the option."""
    (tmp_path / "a-file").touch()

    line = refusal(
        *("--port", str(free_port()), "--nats-port", "0", "--data-dir", data_dir), folder=tmp_path
    )

    assert line.startswith(f"tailrace: cannot write to {data_dir}: {reason}")
    assert line.endswith("choose another folder with --data-dir")


def test_a_folder_that_another_one_uses(tmp_path: Path, stand_ins: dict[str, str]) -> None:
    """Two servers on one store would destroy it; the line says which process to stop."""
    with TailraceUp(tmp_path / "first", environment=stand_ins) as first:
        first.wait_ready()

        line = refusal(
            *("--port", str(free_port()), "--nats-port", "0"),
            *("--data-dir", str(tmp_path / "first" / "data")),
            folder=tmp_path,
        )

    assert f"another `tailrace up` (pid {first.pid}) uses " in line


def test_a_nats_that_is_not_there(tmp_path: Path) -> None:
    """The line shows no secret of the URL."""
    url = f"nats://user:secret@127.0.0.1:{free_port()}"

    line = refusal("--port", str(free_port()), "--nats", url, folder=tmp_path)

    assert "cannot reach NATS at nats://127.0.0.1" in line
    assert "secret" not in line


@pytest.mark.parametrize("version", ["2.13.9", "1.4.1", "2"])
def test_a_nats_that_is_too_old(tmp_path: Path, speaker: Speaker, version: str) -> None:
    """Message schedules came with 2.14; the line names both versions."""
    speaker.greeting = b'INFO {"server_id":"X","version":"%s"}\r\n' % version.encode()
    url = f"nats://127.0.0.1:{speaker.port}"

    line = refusal("--port", str(free_port()), "--nats", url, folder=tmp_path)

    assert line == (f"tailrace: NATS {version} at {url} is too old: Tailrace needs 2.14 or later")


@pytest.mark.parametrize("greeting", [b"", b"SSH-2.0-x\r\n", b"INFO {]\r\n", b"x" * 200_000])
def test_something_else_than_a_nats(tmp_path: Path, speaker: Speaker, greeting: bytes) -> None:
    """Any other greeting is refused."""
    speaker.greeting = greeting

    line = refusal(
        *("--port", str(free_port()), "--nats", f"127.0.0.1:{speaker.port}"), folder=tmp_path
    )

    assert "is not a NATS server" in line


@pytest.mark.parametrize("url", ["", "nats://host:port", "nats://[::1"])
def test_an_invalid_nats_url(tmp_path: Path, url: str) -> None:
    """The line shows how one looks."""
    line = refusal("--port", str(free_port()), "--nats", url, folder=tmp_path)

    assert "nats://127.0.0.1:4222" in line


def test_a_nats_without_jetstream(tmp_path: Path) -> None:
    """Only a service can detect that; its line is shown."""
    with NatsServer(tmp_path / "nats", jetstream=False) as server:
        line = refusal("--port", str(free_port()), "--nats", server.url, folder=tmp_path)

    assert "JetStream" in line


def test_an_unknown_setting(tmp_path: Path) -> None:
    """Several services report it; one line is shown."""
    line = refusal(
        *("--port", str(free_port()), "--nats-port", "0", "--workers", "2"),
        environment={"TAILRACE_LOG_LEVLE": "info"},
        folder=tmp_path,
    )

    assert "TAILRACE_LOG_LEVLE" in line
    assert line.startswith("tailrace-")


def test_a_service_that_refuses_after_it_wrote_log_lines(
    tmp_path: Path, stand_ins: dict[str, str]
) -> None:
    """Its earlier log lines, and lines of stopping services, are not shown."""
    line = refusal(
        *("--port", str(free_port()), "--nats-port", "0"),
        environment={**stand_ins, "STAND_IN": "tailrace_worker=refuses"},
        folder=tmp_path,
    )

    assert line == "tailrace_worker: the moon is in the wrong quarter"
