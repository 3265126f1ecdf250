"""Ask whether a worker still drives an execution, or still runs an attempt; answer such questions.

A worker answers for its drives on its own subject (``tr.worker.<id>``), and for each attempt of an
actor node on a subject that only this attempt has. NATS answers at once for a worker that is gone
("no responders"), and for one whose server is cut off from the others. A worker that is frozen does
not answer, nor does one on a slow machine for a while. So steps count as lost at once only while
all servers reach each other, and otherwise after a silence that no living worker keeps.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from enum import Enum, auto
from typing import Final

import nats.errors
from nats.aio.msg import Msg

from tailrace_shared.errors import UnavailableError
from tailrace_shared.nats.connection.client import NatsClient
from tailrace_shared.nats.health import Pulse
from tailrace_shared.subjects import DRIVEN, Subjects
from tailrace_worker.engine.services.actor_job import ActorJob

_ANSWER_TIMEOUT_S: Final = 1.0
# Longer than a worker takes to reconnect to a NATS that was away: nats-py tries every second.
_SECOND_QUESTION_S: Final = 2.0
# A worker that runs notices a dead connection, and has another one, within this time.
_MAX_SILENCE_S: Final = 10.0
_NO: Final = b"0"


class _Answer(Enum):
    YES = auto()
    NO = auto()
    GONE = auto()
    """NATS knows no worker that would answer."""
    SILENT = auto()
    """Neither the worker nor NATS answered in time."""


class LivenessCheck:
    """Answers for this worker, and asks others.

    Args:
        client: the connection.
        subjects: the subjects of the installation.
        is_cluster_whole: returns whether the servers of NATS reach each other.
    """

    def __init__(
        self,
        client: NatsClient,
        subjects: Subjects,
        is_cluster_whole: Callable[[], Awaitable[bool]],
    ) -> None:
        self._client = client
        self._is_cluster_whole = is_cluster_whole
        self._pulse = Pulse(client)
        self._subjects = subjects

    # Drives

    async def answer_for_drives(self, worker: str, is_driving: Callable[[str, str], bool]) -> None:
        """Answer for the drives of this worker until its connection is closed."""

        async def answer(question: Msg) -> None:
            tenant, _, execution = question.data.decode(errors="replace").partition(".")
            with contextlib.suppress(nats.errors.Error):
                await question.respond(DRIVEN if is_driving(tenant, execution) else _NO)

        await self._client.subscribe(self._subjects.worker(worker), cb=answer)

    async def is_driven(self, worker: str, tenant: str, execution: str) -> bool:
        """Ask a worker whether it drives an execution.

        A worker that answers yes reads the log again, and holds the job that brings the execution
        back should it die after its answer.
        """
        question = f"{tenant}.{execution}".encode()
        return await self._ask(self._subjects.worker(worker), question) is _Answer.YES

    async def is_still_driven(self, worker: str, tenant: str, execution: str) -> bool:
        """Ask until the worker answers or certainly does not run any more.

        Raises:
            UnavailableError: NATS does not answer this worker.
        """
        question = f"{tenant}.{execution}".encode()
        return await self._ask_patiently(self._subjects.worker(worker), question)

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
        """Ask until a worker answers that it runs an attempt, or certainly none does."""
        while True:
            try:
                return await self._ask_patiently(self._subject(job))
            except UnavailableError:
                await asyncio.sleep(_ANSWER_TIMEOUT_S)

    async def _ask_patiently(self, subject: str, question: bytes = b"") -> bool:
        """Ask until a worker answers, was gone twice, or has been silent for long.

        Raises:
            UnavailableError: NATS does not answer this worker, so silence says nothing.
        """
        loop = asyncio.get_running_loop()
        silent_until = loop.time() + _MAX_SILENCE_S
        was_gone = False
        while True:
            match await self._ask(subject, question):
                case _Answer.GONE:
                    # If NATS was away just now, other workers may take longer to reconnect.
                    is_settled = was_gone and self._client.since_reconnect >= _MAX_SILENCE_S
                    if is_settled and (
                        loop.time() >= silent_until or await self._is_cluster_whole()
                    ):
                        return False
                    was_gone = True
                    await asyncio.sleep(_SECOND_QUESTION_S)
                case _Answer.SILENT:
                    if not await self._pulse.ask():
                        raise UnavailableError("NATS does not answer")
                    if loop.time() >= silent_until:
                        return False
                case answer:
                    return answer is _Answer.YES

    async def _ask(self, subject: str, question: bytes) -> _Answer:
        try:
            answer = await self._client.request(subject, question, timeout=_ANSWER_TIMEOUT_S)
        except nats.errors.NoRespondersError:
            return _Answer.GONE
        except (nats.errors.Error, TimeoutError):
            return _Answer.SILENT
        return _Answer.YES if answer.data == DRIVEN else _Answer.NO

    def _subject(self, job: ActorJob) -> str:
        attempt = f"{job.tenant}.{job.execution}.{job.step_id}.{job.attempt}"
        return self._subjects.worker(f"attempt.{attempt}")


async def _answer_yes(question: Msg) -> None:
    with contextlib.suppress(nats.errors.Error):
        await question.respond(DRIVEN)
