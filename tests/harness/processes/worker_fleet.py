"""Worker processes on the broker that a test may kill, and the file in which they note effects."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any
from uuid import uuid4

from dramatiq import Message

from harness.nats.deployment import NatsDeployment
from tailrace_worker.broker import NatsBroker


class WorkerFleet:
    """Worker processes of one program, and their effects.

    Args:
        program: a script that reads its settings from the environment and prints ``ready``.
        nats: the NATS that they use; the fleet has a subject prefix of its own there.
        folder: for the file of effects.
    """

    def __init__(self, program: Path, nats: NatsDeployment, folder: Path) -> None:
        self.program = program
        self._nats = nats
        self._prefix = f"fleet{uuid4().hex[:8]}"
        self.effects_file = folder / "effects"
        self.ack_wait = 1.0
        self.max_deliveries = 20
        self.processes: list[subprocess.Popen[bytes]] = []
        self.broker = NatsBroker(nats.url, prefix=self._prefix, replicas=nats.replicas)
        self.broker.declare_queue("default")

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables of the program."""
        return {
            **os.environ,
            "PROGRAM_URL": self._nats.url,
            "PROGRAM_PREFIX": self._prefix,
            "PROGRAM_REPLICAS": str(self._nats.replicas),
            "PROGRAM_ACK_WAIT": str(self.ack_wait),
            "PROGRAM_MAX_DELIVERIES": str(self.max_deliveries),
            "PROGRAM_EFFECTS": str(self.effects_file),
        }

    def start(self, *command: str, ready: bytes = b"ready", threads: int = 4) -> int:
        """Start a worker process and wait until it is ready; return its id."""
        process = subprocess.Popen(
            command or (sys.executable, str(self.program), str(threads)),
            env=self.environment,
            cwd=self.program.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.processes.append(process)
        assert process.stdout is not None
        for line in process.stdout:
            if ready in line:
                return process.pid
        raise AssertionError("the worker process ended before it was ready")

    def message(self, actor: str, *args: Any) -> "Message[Any]":
        """Return a message for one of the program's actors."""
        return Message(queue_name="default", actor_name=actor, args=args, kwargs={}, options={})

    def send(self, actor: str, *args: Any) -> None:
        """Enqueue a message for one of the program's actors."""
        self.broker.enqueue(self.message(actor, *args))

    def traces(self, kind: str = "effect") -> list[str]:
        """Return the texts that were noted as ``kind``, in order."""
        lines = self.effects_file.read_text().splitlines() if self.effects_file.exists() else []
        return [line.partition(" ")[2] for line in lines if line.startswith(f"{kind} ")]

    def counted(self) -> Counter[str]:
        """Return the number of times each effect happened."""
        return Counter(self.traces())

    def await_traces(self, count: int, kind: str = "effect", timeout: float = 60) -> list[str]:
        """Wait until there are ``count`` traces; return them."""
        deadline = time.monotonic() + timeout
        while len(found := self.traces(kind)) < count:
            assert time.monotonic() < deadline, f"{len(found)} of {count} {kind}s"
            time.sleep(0.02)
        return found

    def close(self) -> None:
        """Kill all running processes."""
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait(60)
            assert process.stdout is not None
            process.stdout.close()
        self.broker.close()
