"""The command ``tailrace-worker``: one worker process."""

import contextlib
import faulthandler
import gc
import os
import signal
import sys
from queue import Empty, SimpleQueue

import structlog

from tailrace_shared.errors import StartupError
from tailrace_shared.process.freed_memory import return_freed_memory
from tailrace_shared.process.readiness import notify
from tailrace_shared.process.settings_reader import refuse_arguments
from tailrace_shared.redact.credentials import redact_credentials
from tailrace_worker.bootstrap import build
from tailrace_worker.dramatiq_worker import Worker
from tailrace_worker.monitor import Monitor

# Thresholds of the garbage collector for its three generations.
_GC_THRESHOLDS = (10_000, 20, 20)
# How long the event loop waits for the interpreter's lock while another thread computes.
_SWITCH_INTERVAL_S = 0.0005
# How often an idle consumer checks whether to stop.
_IDLE_POLL_MS = 500
# Seconds beyond the drain grace after which a worker that has not stopped is ended.
_MAX_STOP_S = 30.0
# Seconds beyond the drain grace that Dramatiq waits for its threads.
_JOIN_MARGIN_S = 5.0
# How often the main thread wakes to run signal handlers.
_SIGNAL_POLL_S = 0.5

_log = structlog.get_logger(__name__)


def main() -> None:
    """Run a worker until SIGTERM or SIGINT."""
    # Unlike an Event, a SimpleQueue is reentrant: a handler may put while its thread waits.
    signals: SimpleQueue[int] = SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _frame: signals.put(number))
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    return_freed_memory()
    try:
        refuse_arguments(sys.argv[1:])
        parts = build()
        monitor = Monitor(parts)
        # Before the engine: probes are answered while it waits for NATS.
        monitor.start()
        parts.engine.start()
    except StartupError as error:
        # The message may contain the URL of NATS with a password.
        sys.stderr.write(f"tailrace-worker: {redact_credentials(str(error))}\n")
        sys.exit(2)
    _relax_garbage_collection()
    # As Dramatiq's own command does: middleware such as time limits starts on this signal.
    parts.broker.emit_after("process_boot")
    worker = Worker(
        parts.broker, worker_threads=parts.settings.worker_threads, worker_timeout=_IDLE_POLL_MS
    )
    worker.start()
    monitor.add_broker()
    _log.info("ready", worker=parts.engine.worker_id)
    notify()
    _wait_for_signal(signals)
    _log.info("stopping")
    notify("STOPPING=1")
    # A worker that hangs is ended with a traceback of each thread; its jobs are redelivered.
    faulthandler.dump_traceback_later(parts.settings.drain_grace + _MAX_STOP_S, exit=True)
    try:
        worker.stop(timeout=int((parts.settings.drain_grace + _JOIN_MARGIN_S) * 1000))
        parts.broker.close()
        if parts.tracing is not None:
            parts.tracing.shutdown()
        _log.info("stopped")
    finally:
        # A synchronous node that ignores its cancellation must not keep the process alive.
        sys.stderr.flush()
        os._exit(0)


def _wait_for_signal(signals: SimpleQueue[int]) -> None:
    # The kernel may deliver a signal to any thread. Python runs the handler in the main thread,
    # which would not leave an endless wait for it.
    while True:
        with contextlib.suppress(Empty):
            signals.get(timeout=_SIGNAL_POLL_S)
            return


def _relax_garbage_collection() -> None:
    # Imported objects are never garbage, and executions create many objects but hardly any cycles.
    # With the default thresholds, the collector took a tenth of a busy worker's time.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)


if __name__ == "__main__":
    main()
