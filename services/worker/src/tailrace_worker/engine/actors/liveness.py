"""Whether somebody attends to an attempt, or drives an execution.

An attempt answers for itself: while it runs, its worker listens on a subject that only this attempt
has. Of a worker that died NATS says at once that nobody listens; one that is frozen does not answer
in time.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from tailrace_shared.subjects import Subjects
from tailrace_worker.engine.services.actor_job import ActorJob

_ANSWER_TIMEOUT: Final = 1.0
# Longer than a worker takes to come back to a NATS that was away: nats-py tries every second.
_SECOND_QUESTION: Final = 2.0
_YES: Final = b"1"


class LivenessCheck:
    """Answers for this worker's attempts, and asks for what others do."""

    def __init__(self, client: Client, subjects: Subjects) -> None:
        self._client = client
        self._subjects = subjects

    @contextlib.asynccontextmanager
    async def answering(self, job: ActorJob) -> AsyncIterator[None]:
        """Answer for an attempt from before it begins until it is over."""
        subscription = await self._client.subscribe(self._subject(job), cb=_answer)
        try:
            yield
        finally:
            with contextlib.suppress(nats.errors.Error):
                await subscription.unsubscribe()

    async def is_attended(self, job: ActorJob) -> bool:
        """Ask whether somebody attends to an attempt that has begun."""
        if await self._ask(job):
            return True
        await asyncio.sleep(_SECOND_QUESTION)
        return await self._ask(job)

    async def is_driven(self, worker: str, tenant: str, execution: str) -> bool:
        """Ask a worker whether it drives an execution; one that does looks at the log again.

        It holds the job that brings the execution back should it die after its answer.
        """
        try:
            answer = await self._client.request(
                self._subjects.worker(worker),
                f"{tenant}.{execution}".encode(),
                timeout=_ANSWER_TIMEOUT,
            )
        except (nats.errors.Error, TimeoutError):
            return False
        return answer.data == _YES

    async def _ask(self, job: ActorJob) -> bool:
        while True:
            try:
                await self._client.request(self._subject(job), b"", timeout=_ANSWER_TIMEOUT)
            except nats.errors.NoRespondersError:
                return False
            except (nats.errors.Error, TimeoutError):
                # Silence means something only while there is somebody to carry an answer.
                if self._client.is_connected:
                    return False
                await asyncio.sleep(_ANSWER_TIMEOUT)
            else:
                return True

    def _subject(self, job: ActorJob) -> str:
        # It tells of a worker, too: of whichever attends to this attempt.
        attempt = f"{job.tenant}.{job.execution}.{job.step_id}.{job.attempt}"
        return self._subjects.worker(f"attempt.{attempt}")


async def _answer(question: Msg) -> None:
    with contextlib.suppress(nats.errors.Error):
        await question.respond(_YES)
