"""Whether another worker still runs a step: an answer counts, silence only after a long time."""

import asyncio
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import nats.errors
import pytest

from harness.fakes.virtual_time import run_in_virtual_time
from tailrace_shared.errors import UnavailableError
from tailrace_shared.subjects import Subjects
from tailrace_worker.engine.services.actor_job import ActorJob
from tailrace_worker.engine.services.liveness import LivenessCheck

JOB = ActorJob("t", "e", "s", "ocr", 1)
_ANSWER_S = 0.001

# What the other worker does at a time, in seconds: the bytes of an answer, or an error.
Script = Callable[[float], bytes | Exception]


class ScriptedNats:
    """A connection over which another worker answers, is silent, or is gone.

    Args:
        script: what it does.
        since_reconnect: seconds since this connection had to be made again.
        answers_pings: whether NATS itself answers.
    """

    is_connected = True

    def __init__(
        self, script: Script, since_reconnect: float = math.inf, *, answers_pings: bool = True
    ) -> None:
        self.since_reconnect = since_reconnect
        self._script = script
        self._answers_pings = answers_pings

    async def request(self, _subject: str, _question: bytes, timeout: float) -> Any:
        answer = self._script(asyncio.get_running_loop().time())
        await asyncio.sleep(timeout if isinstance(answer, TimeoutError) else _ANSWER_S)
        if isinstance(answer, Exception):
            raise answer
        return SimpleNamespace(data=answer)

    async def _send_ping(self, pong: asyncio.Future[bool]) -> None:
        if self._answers_pings:
            pong.set_result(True)


def ask(nats: Any, *, is_whole: bool = True) -> tuple[bool, float]:
    """Return whether the attempt runs, and after how many seconds that was decided.

    Args:
        nats: the connection.
        is_whole: whether the servers of NATS reach each other.
    """

    async def timed() -> tuple[bool, float]:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        is_running = await liveness(nats, is_whole=is_whole).is_running(JOB)
        return is_running, loop.time() - begun

    return run_in_virtual_time(timed())


def liveness(nats: Any, *, is_whole: bool = True) -> LivenessCheck:
    """Return the check of a worker whose connection this is."""

    async def is_cluster_whole() -> bool:
        return is_whole

    return LivenessCheck(nats, Subjects("t"), is_cluster_whole)


def until(seconds: float, before: bytes | Exception, after: bytes | Exception) -> Script:
    """Return what a worker does that changes after some seconds."""
    begun: list[float] = []

    def act(now: float) -> bytes | Exception:
        begun.append(now)
        return before if now - begun[0] < seconds else after

    return act


def test_a_worker_on_a_slow_machine_is_alive() -> None:
    """It answers nothing for eight seconds, then that it runs the attempt."""
    is_running, _seconds = ask(ScriptedNats(until(8, TimeoutError(), b"1")))
    assert is_running


def test_a_frozen_worker_is_given_up_after_ten_seconds() -> None:
    is_running, seconds = ask(ScriptedNats(until(60, TimeoutError(), b"1")))
    assert not is_running
    assert 10 <= seconds < 12


def test_a_worker_that_died_is_asked_twice() -> None:
    """NATS knows at once that it is gone; it might have been about to reconnect."""
    gone = nats.errors.NoRespondersError()
    is_running, seconds = ask(ScriptedNats(until(60, gone, b"1")))
    assert not is_running
    assert 2 <= seconds < 3
    assert ask(ScriptedNats(until(1, gone, b"1")))[0]


def test_a_worker_that_is_cut_off_with_its_server_is_alive() -> None:
    """For the other servers it is gone until they reach its server again."""
    gone = nats.errors.NoRespondersError()
    assert ask(ScriptedNats(until(9, gone, b"1")), is_whole=False)[0]
    is_running, seconds = ask(ScriptedNats(until(60, gone, b"1")), is_whole=False)
    assert not is_running
    assert 10 <= seconds < 13


def test_after_an_outage_of_nats_other_workers_have_time_to_reconnect() -> None:
    """This worker has just connected again; the other one needs six seconds more."""
    gone = nats.errors.NoRespondersError()
    assert ask(ScriptedNats(until(6, gone, b"1"), since_reconnect=0.5))[0]


def test_an_answer_is_believed_at_once() -> None:
    is_running, seconds = ask(ScriptedNats(lambda _now: b"0"))
    assert not is_running
    assert seconds < 1


def test_silence_says_nothing_while_nats_itself_is_silent() -> None:
    """The question fails, and the job waits for NATS."""
    silent: Any = ScriptedNats(lambda _now: TimeoutError(), answers_pings=False)
    with pytest.raises(UnavailableError):
        run_in_virtual_time(liveness(silent).is_still_driven("w", "t", "e"))
