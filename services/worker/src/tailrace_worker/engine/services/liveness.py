"""Ask whether a worker still drives an execution, or still runs an attempt; answer such questions.

A worker answers for its drives on its own subject (``tr.worker.<id>``), and for each attempt of an
actor node on a subject that only this attempt has. NATS answers at once for a worker that is gone
("no responders"); a worker that is frozen does not answer in time.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Final

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from tailrace_shared.errors import UnavailableError
from tailrace_shared.nats.health import Pulse
from tailrace_shared.subjects import Subjects
from tailrace_worker.engine.services.actor_job import ActorJob

_ANSWER_TIMEOUT_S: Final = 1.0
# Longer than a worker takes to reconnect to a NATS that was away: nats-py tries every second.
_SECOND_QUESTION_S: Final = 2.0
_YES: Final = b"1"
_NO: Final = b"0"


class LivenessCheck:
    """Answers for this worker, and asks others."""

    def __init__(self, client: Client, subjects: Subjects) -> None:
        self._client = client
        self._pulse = Pulse(client)
        self._subjects = subjects

    # Drives

    async def answer_for_drives(self, worker: str, is_driving: Callable[[str, str], bool]) -> None:
        """Answer for the drives of this worker until its connection is closed."""

        async def answer(question: Msg) -> None:
            tenant, _, execution = question.data.decode(errors="replace").partition(".")
            with contextlib.suppress(nats.errors.Error):
                await question.respond(_YES if is_driving(tenant, execution) else _NO)

        await self._client.subscribe(self._subjects.worker(worker), cb=answer)

    async def is_driven(self, worker: str, tenant: str, execution: str) -> bool:
        """Ask a worker whether it drives an execution.

        A worker that answers yes reads the log again, and holds the job that brings the execution
        back should it die after its answer.
        """
        try:
            answer = await self._client.request(
                self._subjects.worker(worker),
                f"{tenant}.{execution}".encode(),
                timeout=_ANSWER_TIMEOUT_S,
            )
        except (nats.errors.Error, TimeoutError):
            return False
        return answer.data == _YES

    async def is_still_driven(self, worker: str, tenant: str, execution: str) -> bool:
        """Ask again, once a worker that had lost its connection has reconnected.

        Raises:
            UnavailableError: this worker has no connection itself.
        """
        await asyncio.sleep(_SECOND_QUESTION_S)
        if not await self._pulse.ask():
            raise UnavailableError("NATS does not answer")
        return await self.is_driven(worker, tenant, execution)

    # Attempts of actor nodes

    @contextlib.asynccontextmanager
    async def answering(self, job: ActorJob) -> AsyncIterator[None]:
        """Answer for an attempt from before it begins until it is over."""
        subscription = await self._client.subscribe(self._subject(job), cb=_answer_yes)
        try:
            yield
        finally:
            with contextlib.suppress(nats.errors.Error):
                await subscription.unsubscribe()

    async def is_running(self, job: ActorJob) -> bool:
        """Ask whether any worker runs an attempt that has begun."""
        if await self._ask(job):
            return True
        await asyncio.sleep(_SECOND_QUESTION_S)
        return await self._ask(job)

    async def _ask(self, job: ActorJob) -> bool:
        while True:
            try:
                await self._client.request(self._subject(job), b"", timeout=_ANSWER_TIMEOUT_S)
            except nats.errors.NoRespondersError:
                return False
            except (nats.errors.Error, TimeoutError):
                # Without a connection that works, silence says nothing about the other worker.
                if await self._pulse.ask():
                    return False
                await asyncio.sleep(_ANSWER_TIMEOUT_S)
            else:
                return True

    def _subject(self, job: ActorJob) -> str:
        attempt = f"{job.tenant}.{job.execution}.{job.step_id}.{job.attempt}"
        return self._subjects.worker(f"attempt.{attempt}")


async def _answer_yes(question: Msg) -> None:
    with contextlib.suppress(nats.errors.Error):
        await question.respond(_YES)
