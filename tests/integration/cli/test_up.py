"""`tailrace up` starts, supervises and ends its processes."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.nats.server import NatsServer
from harness.processes.ports import free_port
from harness.processes.tailrace_up import TailraceUp, command_line, wait_gone
from tailrace.errors import StartError
from tailrace.local.ports import api_ports
from tailrace.local.system import API_DEADLINE_S, NATS_DEADLINE_S, WORKER_DEADLINE_S

SERVICES = ("tailrace_api", "tailrace_worker", "nats-server")


@pytest.fixture
def up(tmp_path: Path, stand_ins: dict[str, str]) -> Iterator[TailraceUp]:
    """A `tailrace up` that is ready, with services that stand in for the real ones."""
    with TailraceUp(tmp_path / "up", environment=stand_ins) as running:
        yield running.wait_ready()


def test_the_ready_line_is_alone_on_stdout(tmp_path: Path, stand_ins: dict[str, str]) -> None:
    """Output of services and the URLs of the other replicas go to stderr."""
    options = ("--port", "0", "--api-replicas", "2")
    with TailraceUp(tmp_path / "up", *options, environment=stand_ins) as up:
        up.wait_ready()
        up.send(signal.SIGTERM)
        assert up.wait() == 0

        assert not up.rest_of_stdout()
        (other,) = re.findall(r"(?m)^another API replica is at (http://\S+)$", up.stderr())
        assert other != up.url
        assert up.stderr().count("printed by mistake") == 3


def test_replicas_take_ports_upward_from_the_first(
    tmp_path: Path, stand_ins: dict[str, str]
) -> None:
    """The ready line names the port that was asked for."""
    first = free_ports_in_a_row(2)
    options = ("--port", str(first), "--api-replicas", "2")
    with TailraceUp(tmp_path / "up", *options, environment=stand_ins) as up:
        up.wait_ready()

        assert up.url == f"http://127.0.0.1:{first}"
        up.wait_stderr(f"another API replica is at http://127.0.0.1:{first + 1}\n")
        up.wait_stderr(f"next: TAILRACE_URL={up.url} tailrace apply FILE\n")


def test_nats_requires_a_token_and_gets_no_secrets(
    tmp_path: Path, stand_ins: dict[str, str]
) -> None:
    """Other users of this machine reach its port, and read neither files nor environments."""
    settings = {"TAILRACE_SECRET_CARD": "s3cr3t", "TAILRACE_NATS_CA_FILE": "/of/another/nats"}
    with TailraceUp(tmp_path / "up", environment={**stand_ins, **settings}) as up:
        up.wait_ready()
        data = tmp_path / "up" / "data"
        assert data.stat().st_mode & 0o777 == 0o700
        token = (data / "nats.token").read_text().strip()
        for name in ("nats.token", "nats.conf", "nats.url"):
            assert (data / name).stat().st_mode & 0o777 == 0o600
        environment = Path(f"/proc/{up.child('nats-server')}/environ").read_bytes()
        names = {entry.partition(b"=")[0] for entry in environment.split(b"\0") if entry}
        assert names <= {b"ZONEINFO", b"LC_CTYPE"}  # Python may set the latter
        worker = Path(f"/proc/{up.child('tailrace_worker')}/environ").read_bytes()
        assert f"TAILRACE_NATS_TOKEN_FILE={data / 'nats.token'}".encode() in worker
        assert b"TAILRACE_NATS_CA_FILE" not in worker
        assert asyncio.run(answers(up.nats_port, token)) == b"PONG\r\n"
        assert b"Authorization Violation" in asyncio.run(answers(up.nats_port, "wrong"))
        assert token not in up.stderr()
        first = token
        up.send(signal.SIGTERM)
        assert up.wait() == 0
    with TailraceUp(tmp_path / "up", environment=stand_ins) as again:
        again.wait_ready()
        assert (data / "nats.token").read_text().strip() == first


async def answers(port: int, token: str) -> bytes:
    """Return the answer of a NATS server to a connect with a token."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await reader.readline()
    writer.write(f'CONNECT {{"auth_token": "{token}", "verbose": false}}\r\nPING\r\n'.encode())
    answer = await reader.readline()
    writer.close()
    return answer


@pytest.mark.parametrize("service", SERVICES)
def test_a_crashed_child_is_restarted_and_reported(up: TailraceUp, service: str) -> None:
    """One line has its name, its signal and the delay."""
    before = up.child(service)
    others = {pid for pid in up.children() if pid != before}

    os.kill(before, signal.SIGKILL)

    name = {"tailrace_api": "api-1", "tailrace_worker": "worker-1", "nats-server": "nats"}[service]
    up.wait_stderr(rf"(?m)^{name} ended with SIGKILL; restarting in 0\.5 s$")
    after = wait_child(up, service, other_than=before)
    assert after != before
    assert others < set(up.children())


def test_a_child_that_keeps_crashing_is_started_at_growing_intervals(up: TailraceUp) -> None:
    """Delays of half a second, then one second, prevent a busy loop."""
    pid = up.child("tailrace_worker")
    for pause in ("0.5", "1"):
        os.kill(pid, signal.SIGKILL)
        up.wait_stderr(rf"worker-1 ended with SIGKILL; restarting in {re.escape(pause)} s")
        pid = wait_child(up, "tailrace_worker", other_than=pid)


def test_a_changed_python_file_restarts_the_workers(
    tmp_path: Path, stand_ins: dict[str, str]
) -> None:
    """With `--reload`; the API and NATS go on."""
    project = tmp_path / "project"
    project.mkdir()
    with TailraceUp(tmp_path / "up", "--reload", environment=stand_ins, cwd=project) as up:
        up.wait_ready()
        before, api = up.child("tailrace_worker"), up.child("tailrace_api")
        (project / "nodes.py").write_text("")
        up.wait_stderr(r"(?m)^nodes\.py has changed; restarting the workers$")
        wait_child(up, "tailrace_worker", other_than=before)
        assert up.child("tailrace_api") == api


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_everything_in_order(up: TailraceUp, number: signal.Signals) -> None:
    """API first, so that no run begins; NATS last, so that workers can hand back their jobs."""
    pids = list(up.children())

    up.send(number)

    assert up.wait() == 0
    wait_gone(pids)
    asked = re.findall(r"(?m)^(\w+) was asked to end$", up.stderr())
    assert asked == ["tailrace_api", "tailrace_worker"]
    log = (up.folder / "data" / "nats.log").read_text()
    assert "Server Exiting" in log
    assert "restarting" not in up.stderr()


def test_a_child_that_does_not_end_is_killed(tmp_path: Path, stand_ins: dict[str, str]) -> None:
    """Within ten seconds, with its own children, which `up` does not know."""
    assert max(API_DEADLINE_S, WORKER_DEADLINE_S, NATS_DEADLINE_S) < 10
    environment = {
        **stand_ins,
        "STAND_IN": "tailrace_api=leaves-a-child tailrace_worker=stays",
    }
    with TailraceUp(tmp_path / "up", environment=environment) as up:
        up.wait_ready()
        pids = list(up.children())

        up.send(signal.SIGTERM)

        assert up.wait() == 0
        wait_gone(pids)


def test_a_second_signal_ends_everything_at_once(tmp_path: Path, stand_ins: dict[str, str]) -> None:
    """A second Ctrl-C kills all processes."""
    with TailraceUp(
        tmp_path / "up",
        environment={**stand_ins, "STAND_IN": "tailrace_api=stays tailrace_worker=stays"},
    ) as up:
        up.wait_ready()
        pids = list(up.children())
        up.send(signal.SIGINT)
        up.send(signal.SIGINT)  # As a wrapper would pass it on: this one does not count.
        up.wait_stderr("tailrace_api was asked to end")
        assert up.children()

        while up.poll() is None:
            up.send(signal.SIGINT)
            time.sleep(0.05)

        assert up.wait() == 0
        wait_gone(pids)
        # Otherwise workers would get their time, and NATS would stop after them.
        assert "Server Exiting" not in (up.folder / "data" / "nats.log").read_text()


def test_a_signal_during_the_start_ends_it(tmp_path: Path, stand_ins: dict[str, str]) -> None:
    """No process remains."""
    with TailraceUp(tmp_path / "up", "--workers", "3", environment=stand_ins) as up:
        pids = wait_children(up)

        up.send(signal.SIGTERM)

        assert up.wait() == 0
        wait_gone(pids)


def test_folders_may_have_any_name(tmp_path: Path, stand_ins: dict[str, str]) -> None:
    """Quotes and spaces in NATS's configuration, and more than a socket's address can hold."""
    long = tmp_path / ("t" * 100)
    long.mkdir()
    folder = tmp_path / 'with "quotes", $signs and ümlauts'
    with TailraceUp(folder, environment={**stand_ins, "TMPDIR": str(long)}) as up:
        up.wait_ready()

        assert (folder / "data" / "nats" / "jetstream").is_dir()


def test_no_child_outlives_an_up_that_was_killed(up: TailraceUp) -> None:
    """The kernel kills them."""
    pids = list(up.children())
    assert len(pids) == len(SERVICES)

    up.send(signal.SIGKILL)

    assert up.wait() == -signal.SIGKILL
    wait_gone(pids)


def test_data_stays_between_starts_even_if_the_first_was_killed(
    tmp_path: Path, stand_ins: dict[str, str]
) -> None:
    """The lock ends with its holders, so the next start succeeds."""
    with TailraceUp(tmp_path / "up", environment=stand_ins) as first:
        first.wait_ready()
        store = tmp_path / "up" / "data" / "nats"
        assert store.is_dir()
        first.send(signal.SIGKILL)
        first.wait()

    with TailraceUp(tmp_path / "up", environment=stand_ins) as second:
        second.wait_ready()


def test_a_running_nats_may_be_used(
    tmp_path: Path, stand_ins: dict[str, str], nats_server: NatsServer
) -> None:
    """Then none is started, no folder is made, and it still runs afterwards."""
    with TailraceUp(tmp_path / "up", "--nats", nats_server.url, environment=stand_ins) as up:
        up.wait_ready()
        assert not any("nats-server" in command for command in up.children().values())
        up.send(signal.SIGTERM)
        assert up.wait() == 0

    assert not (tmp_path / "up" / "data").exists()
    assert command_line(nats_server.pid)


def test_a_crash_during_the_start_shows_all_output(
    tmp_path: Path, stand_ins: dict[str, str]
) -> None:
    """A crash is a defect, not a mistake of the operator, so the traceback matters."""
    environment = {**stand_ins, "STAND_IN": "tailrace_api=crashes"}
    with TailraceUp(tmp_path / "up", environment=environment) as up:
        assert up.wait() == 2
        assert "RuntimeError: a defect" in up.stderr()
        assert "api-1 ended with exit code 1 before it was ready" in up.stderr()


def test_an_unread_stderr_does_not_block(tmp_path: Path, stand_ins: dict[str, str]) -> None:
    """A full pipe on stderr stops neither the supervision nor the end."""
    environment = {**os.environ, **stand_ins, "STAND_IN": "tailrace_worker=floods"}
    reading, writing = os.pipe()
    command = [sys.executable, "-m", "tailrace", "up", "--port", "0", "--nats-port", "0"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=writing, env=environment
    ) as process:
        os.close(writing)
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"ready ")

        process.send_signal(signal.SIGTERM)

        assert process.wait(60) == 0
    os.close(reading)


def wait_child(up: TailraceUp, part: str, *, other_than: int) -> int:
    """Return the process id of a child that has executed its command."""
    while True:
        found = [
            pid
            for pid, command in up.children().items()
            if part in command and "launch.py" not in command and pid != other_than
        ]
        if found:
            return found[0]
        time.sleep(0.01)


def wait_children(up: TailraceUp) -> list[int]:
    """Return the process ids of the first children, as soon as services are among them."""
    while True:
        children = up.children()
        if any("tailrace_worker" in command_line(pid) for pid in children):
            return list(children)
        time.sleep(0.005)


def free_ports_in_a_row(count: int) -> int:
    """Return the first of several consecutive free ports."""
    while True:
        first = free_port()
        try:
            api_ports("127.0.0.1", first, count)
        except StartError:
            continue
        return first
