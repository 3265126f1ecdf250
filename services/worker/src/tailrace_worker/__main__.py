"""The command ``tailrace-worker``: one worker process."""

import contextlib
import faulthandler
import gc
import os
import signal
import sys
from queue import Empty, SimpleQueue

import dramatiq
import structlog

from tailrace_shared.errors import StartupError
from tailrace_shared.process.readiness import notify
from tailrace_shared.redact.credentials import redact_credentials
from tailrace_worker.bootstrap import build
from tailrace_worker.monitor import Monitor

# Objects that a generation of the collector takes on before it is looked through.
_GENERATIONS = (10_000, 20, 20)
# How often a thread that has no job looks whether it is to end: there are hundreds.
_IDLE_MS = 500
# Seconds beyond the grace of its steps in which a worker has ended, or is ended.
_LONGEST_STOP = 30.0
# How long the main thread may overlook that another one was given a signal.
_OVERLOOKED = 0.5

_log = structlog.get_logger(__name__)


def main() -> None:
    """Run a worker until SIGTERM or SIGINT."""
    # Other than an Event, it may be touched by a handler while the same thread waits for it.
    told: SimpleQueue[int] = SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _frame: told.put(number))
    try:
        parts = build()
        monitor = Monitor(parts)
        parts.engine.start()
    except StartupError as error:
        # It may name a URL of NATS, with a password.
        sys.stderr.write(f"tailrace-worker: {redact_credentials(str(error))}\n")
        sys.exit(2)
    _collect_less()
    # As Dramatiq's own command does: some middleware begins to work here, as time limits do.
    parts.broker.emit_after("process_boot")
    worker = dramatiq.Worker(
        parts.broker, worker_threads=parts.settings.worker_threads, worker_timeout=_IDLE_MS
    )
    worker.start()
    monitor.start()
    _log.info("ready", worker=parts.engine.worker_id)
    notify()
    _wait_for(told)
    _log.info("stopping")
    notify("STOPPING=1")
    # Whatever keeps it, it ends, and says where each thread was; its jobs go to others.
    faulthandler.dump_traceback_later(parts.settings.drain_grace + _LONGEST_STOP, exit=True)
    try:
        worker.stop(timeout=int((parts.settings.drain_grace + 5) * 1000))
        parts.broker.close()
        _log.info("stopped")
    finally:
        # A synchronous node that ignored its cancellation must not keep the process.
        sys.stderr.flush()
        os._exit(0)


def _wait_for(told: SimpleQueue[int]) -> None:
    # A signal may be given to any thread, as it is while the main one still wakes from SIGSTOP.
    # Handlers run in the main one, which would not leave a wait without an end for them.
    while True:
        with contextlib.suppress(Empty):
            told.get(timeout=_OVERLOOKED)
            return


def _collect_less() -> None:
    # What was imported is never garbage, and executions make many objects but hardly a cycle: to
    # look at all of them as often as by default took a tenth of a busy worker's time.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GENERATIONS)


if __name__ == "__main__":
    main()
