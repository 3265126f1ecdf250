"""Actors that leave traces in a file, as a program of their own that tests may kill.

Run by a test as ``python program.py``, or by Dramatiq's command as the module ``program``. It is
configured by the environment.
"""

import os
import signal
import sys
import threading
import time

import dramatiq
from dramatiq import Worker
from dramatiq.middleware import CurrentMessage

from tailrace_worker.broker import MsgspecEncoder, NatsBroker

dramatiq.set_encoder(MsgspecEncoder())
broker = NatsBroker(
    os.environ["PROGRAM_URL"],
    prefix=os.environ["PROGRAM_PREFIX"],
    replicas=int(os.environ["PROGRAM_REPLICAS"]),
    ack_wait=float(os.environ["PROGRAM_ACK_WAIT"]),
    max_deliveries=int(os.environ["PROGRAM_MAX_DELIVERIES"]),
)
broker.add_middleware(CurrentMessage())
dramatiq.set_broker(broker)

_effects = os.open(os.environ["PROGRAM_EFFECTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def _note(what: str) -> None:
    # A small append is atomic, also between processes.
    os.write(_effects, f"{what}\n".encode())


def _deliveries() -> int:
    message = CurrentMessage.get_current_message()
    assert message is not None
    return int(message.deliveries)  # type: ignore[attr-defined]


@dramatiq.actor
def effect(name: str) -> None:
    """Leave a trace."""
    _note(f"effect {name}")


@dramatiq.actor
def slow(name: str, seconds: float) -> None:
    """Leave a trace before and after a while."""
    _note(f"begin {name} {os.getpid()}")
    time.sleep(seconds)
    _note(f"effect {name}")


@dramatiq.actor
def stopped(name: str, process: int) -> None:
    """Leave a trace; the process with that number then stops itself (SIGSTOP) until SIGCONT."""
    _note(f"begin {name} {os.getpid()}")
    if os.getpid() == process:
        # To this thread: otherwise it might run on until another thread takes the signal.
        signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
    _note(f"effect {name}")


@dramatiq.actor
def die_before(name: str) -> None:
    """Kill the process before the effect, at the first delivery."""
    if _deliveries() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    _note(f"effect {name}")


@dramatiq.actor
def die_after(name: str) -> None:
    """Kill the process between the effect and the ack, at the first delivery."""
    _note(f"effect {name}")
    if _deliveries() == 1:
        os.kill(os.getpid(), signal.SIGKILL)


@dramatiq.actor
def die_always(name: str) -> None:
    """Kill the process at every delivery."""
    _note(f"begin {name}")
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Run a worker until SIGTERM."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    worker = Worker(broker, worker_timeout=100, worker_threads=int(sys.argv[1]))
    worker.start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    stop.wait()
    worker.stop()
    broker.close()


if __name__ == "__main__":
    main()
