"""Admit jobs of executions to this worker's slots, or move them to their tenant's queue.

The broker asks for each job before Dramatiq gets it (``broker/link/gate.py``). A tenant with
thousands of jobs delays no other tenant: those beyond its share leave the work queue many at a
time, without a thread of Dramatiq, and the broker goes on to the jobs behind them.

A job that *overtakes* is admitted while there is any free slot: a command must not wait for the
tenant's other executions. So is the job of an execution that this worker drives already.
"""

import asyncio
import concurrent.futures
from collections.abc import Callable, Hashable
from typing import Any, Final

import msgspec
import structlog

from tailrace_shared.nats.jobs import ADVANCE_ACTOR, OVERTAKES
from tailrace_shared.process.log_throttle import LogThrottle
from tailrace_worker.engine.fairness.fair_share import FairShare
from tailrace_worker.engine.fairness.tenant_queues import TenantQueues
from tailrace_worker.engine.tasks.retry import retry_unavailable

# Less than the ack wait of most installations.
_JOIN_TIMEOUT_S: Final = 5.0

_log = structlog.get_logger(__name__)


class _Job(msgspec.Struct):
    actor_name: str
    args: list[Any] = []
    options: dict[str, Any] = {}


_decode = msgspec.json.Decoder(_Job).decode
_OnSetAside = Callable[[bool], None]
_Waiting = tuple[str, str, _OnSetAside]


class JobGate:
    """The gate of the queue of executions. The broker's loop calls it.

    Args:
        share: decides whether a tenant may have one more slot.
        is_driving: whether this worker drives an execution (tenant, id).
        loop: the engine's event loop.

    Attributes:
        queues: the tenants' queues, once the engine has started.
    """

    queues: TenantQueues

    def __init__(
        self,
        share: FairShare,
        is_driving: Callable[[str, str], bool],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._fair_share = share
        self._is_driving = is_driving
        self._loop = loop
        self._slots: dict[Hashable, str] = {}
        self._leaving: list[_Waiting] = []
        self._error_log = LogThrottle()

    def admits(self, payload: bytes) -> bool:
        """Return whether a job may run now."""
        job = _job_of(payload)
        if job is None:
            return True
        tenant, execution = job.args
        if self._fair_share.admits(tenant) or self._is_driving(tenant, execution):
            return True
        return bool(job.options.get(OVERTAKES)) and self._fair_share.free > 0

    def enter(self, identity: Hashable, payload: bytes) -> None:
        """Take a slot for a job that is about to run."""
        job = _job_of(payload)
        if job is not None:
            tenant = self._slots[identity] = job.args[0]
            self._fair_share.acquire(tenant)

    def leave(self, identity: Hashable) -> None:
        """Give the slot of a job back, and admit the next of its tenant."""
        tenant = self._slots.pop(identity, None)
        if tenant is not None:
            self._fair_share.release(tenant)
            if self.queues.has_queue(tenant):
                self._loop.call_soon_threadsafe(self.queues.admit_soon, tenant)

    def set_aside(self, payload: bytes, done: _OnSetAside) -> None:
        """Move a job to its tenant's queue, together with others that arrive in the same moment."""
        job = _job_of(payload)
        if job is None:
            done(False)  # `admits` never refuses such a job
            return
        if not self._leaving:
            asyncio.get_running_loop().call_soon(self._move)
        self._leaving.append((*job.args, done))

    def _move(self) -> None:
        leaving, self._leaving = self._leaving, []
        executions = [(tenant, execution) for tenant, execution, _ in leaving]
        loop = asyncio.get_running_loop()

        def on_joined(joined: concurrent.futures.Future[None]) -> None:
            loop.call_soon_threadsafe(self._moved, leaving, joined)

        asyncio.run_coroutine_threadsafe(self._join(executions), self._loop).add_done_callback(
            on_joined
        )

    async def _join(self, executions: list[tuple[str, str]]) -> None:
        await retry_unavailable(lambda: self.queues.join(executions), timeout_s=_JOIN_TIMEOUT_S)

    def _moved(self, leaving: list[_Waiting], joined: concurrent.futures.Future[None]) -> None:
        error = None if joined.cancelled() else joined.exception()
        if error is not None and self._error_log.is_due():
            _log.warning("tenant queue: join failed", error=str(error) or repr(error))
        is_moved = not joined.cancelled() and error is None
        for _tenant, _execution, done in leaving:
            done(is_moved)


def _job_of(payload: bytes) -> _Job | None:
    """Return the job of an execution, or None for any other message."""
    try:
        job = _decode(payload)
    # Text that is not UTF-8 raises another error than JSON that is malformed.
    except (ValueError, RecursionError):
        return None  # the consumer makes it a dead letter
    is_job = job.actor_name == ADVANCE_ACTOR and len(job.args) == 2
    return job if is_job and all(isinstance(each, str) for each in job.args) else None
