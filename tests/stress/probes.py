"""The answers of all readiness probes over time, compared with what requests experience."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import httpx

from stress.callers import Outcome

_INTERVAL_S: Final = 0.25
_TIMEOUT_S: Final = 2.0
"""Time within which a service must answer a probe."""
NOTICE_S: Final = 10.0
"""Time within which a service must report that it cannot work."""


class Answer(NamedTuple):
    """The answer to one probe.

    Attributes:
        at: the time of the request (monotonic).
        ended: the time of the answer.
        is_ready: whether it was 200.
        text: the body; the name of the error if there was no response.
    """

    at: float
    ended: float
    is_ready: bool
    text: str


class Probes:
    """Requests ``/readyz`` of all services, several times a second.

    Args:
        ports: the port of each service by its name.
        slack: how much later than that a service may report it on this machine, in seconds.

    Attributes:
        answers: the answers of each service.
    """

    def __init__(self, ports: Mapping[str, int], slack: float) -> None:
        self.answers: dict[str, list[Answer]] = {name: [] for name in ports}
        self._ports = ports
        self._slack = slack
        self._notice = NOTICE_S + slack

    async def run(self) -> None:
        """Probe until cancelled."""
        async with httpx.AsyncClient(timeout=_TIMEOUT_S + self._slack) as client:
            await asyncio.gather(*(self._probe(client, name) for name in self._ports))

    async def _probe(self, client: httpx.AsyncClient, name: str) -> None:
        while True:
            at = time.monotonic()
            try:
                answer = await client.get(f"http://127.0.0.1:{self._ports[name]}/readyz")
            except httpx.TransportError as error:
                found = Answer(at, time.monotonic(), False, type(error).__name__)
            else:
                is_ready = answer.status_code == 200
                found = Answer(at, time.monotonic(), is_ready, answer.text)
            self.answers[name].append(found)
            await asyncio.sleep(_INTERVAL_S)

    async def all_ready(self, timeout: float) -> None:
        """Wait until each service has said since the call that it is ready.

        Raises:
            AssertionError: they do not within ``timeout`` seconds.
        """
        began = time.monotonic()
        while not all(self._is_ready_since(name, began) for name in self._ports):
            last = {name: answers[-1:] for name, answers in self.answers.items()}
            assert time.monotonic() < began + timeout, f"not ready {timeout:.0f} s later: {last}"
            await asyncio.sleep(_INTERVAL_S)

    def _is_ready_since(self, name: str, began: float) -> bool:
        answers = self.answers[name]
        return bool(answers) and answers[-1].at >= began and answers[-1].is_ready

    def untrue(self, faults: tuple[float, float], outages: list[tuple[float, float]]) -> list[str]:
        """Return where a service did not say the truth.

        Args:
            faults: when the first fault began and the last ended.
            outages: times in which nothing could be stored.
        """
        problems = []
        for name, answers in self.answers.items():
            before = [answer for answer in answers if answer.ended < faults[0]]
            if (unready := _longest_unready(before)) > self._slack:
                problems.append(f"{name} was not ready for {unready:.1f} s before the fault")
            for began, ended in outages:
                late = [
                    answer
                    for answer in answers
                    if began + self._notice < answer.at < ended and answer.is_ready
                ]
                if late:
                    after = late[-1].at - began
                    problems.append(f"{name} was ready {after:.1f} s after nothing could be stored")
        return problems

    def ready_without_success(self, outcomes: Mapping[str, Sequence[Outcome]]) -> list[str]:
        """Return the services that said that they are ready while all their requests failed.

        Args:
            outcomes: the outcomes of the requests to each replica.
        """
        problems = []
        for name, requests in outcomes.items():
            for began, ended in _failing(requests):
                longest = self._longest_ready(name, began, ended)
                if longest > self._notice:
                    problems.append(f"{name} was ready for {longest:.1f} s of failing requests")
        return problems

    def _longest_ready(self, name: str, began: float, ended: float) -> float:
        """Return how long a service was ready without a break between two times, in seconds."""
        longest, since = 0.0, began
        for answer in self.answers[name]:
            if began <= answer.at <= ended:
                longest = max(longest, answer.at - since) if answer.is_ready else longest
                since = since if answer.is_ready else answer.at
        return longest

    def longest_unready(self) -> Mapping[str, Any]:
        """Return the longest time that each service was not ready, in seconds."""
        return {name: round(_longest_unready(answers), 1) for name, answers in self.answers.items()}


def _longest_unready(answers: Sequence[Answer]) -> float:
    """Return the longest time without an answer that the service is ready, in seconds."""
    longest, since = 0.0, None
    for answer in answers:
        if answer.is_ready:
            since = None
        elif since is None:
            since = answer.at
        if since is not None:
            longest = max(longest, answer.ended - since + _INTERVAL_S)
    return longest


def _failing(requests: Sequence[Outcome]) -> list[tuple[float, float]]:
    """Return the times in which all requests failed, several of them."""
    found = []
    failed: list[Outcome] = []
    for request in sorted(requests, key=lambda outcome: outcome.ended):
        if not request.is_answered:
            failed.append(request)
            continue
        if len(failed) > 1:
            found.append((failed[0].began, failed[-1].ended))
        failed.clear()
    if len(failed) > 1:
        found.append((failed[0].began, failed[-1].ended))
    return found
