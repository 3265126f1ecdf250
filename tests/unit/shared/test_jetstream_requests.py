"""Requests to JetStream, without a server."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from tailrace_shared.errors import JetStreamError, TemporarilyUnavailableError
from tailrace_shared.nats import jetstream
from tailrace_shared.nats.jetstream import JetStream

BUSY = {"error": {"code": 503, "err_code": 10008, "description": "temporarily unavailable"}}
UNKNOWN = {"error": {"code": 404, "err_code": 10059, "description": "stream not found"}}


class _Requests:
    """Answers requests with documents in turns, the last one for ever."""

    def __init__(self, answers: Sequence[dict[str, Any]]) -> None:
        self.answers = list(answers)
        self.count = 0

    async def request(self, subject: str, *_: object, **__: object) -> Msg:
        """Return the next answer."""
        await asyncio.sleep(0)
        self.count += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return Msg(Client(), subject=subject, data=json.dumps(answer).encode())


def _requests(under_test: JetStream, *answers: dict[str, Any]) -> _Requests:
    requests = _Requests(answers)
    under_test._requests = requests  # type: ignore[assignment]
    return requests


@pytest.fixture
def under_test(monkeypatch: pytest.MonkeyPatch) -> JetStream:
    monkeypatch.setattr(jetstream, "_TEMPORARY_PAUSE_S", 0.0)
    return JetStream(Client())


@pytest.mark.parametrize("action", ["INFO", "STREAM.INFO.S", "STREAM.MSG.GET.S"])
async def test_a_read_is_repeated_while_jetstream_cannot_serve(
    under_test: JetStream, action: str
) -> None:
    """A server that was frozen does not know its cluster for some seconds."""
    requests = _requests(under_test, BUSY, BUSY, {"state": {}})
    assert await under_test.api(action) == {"state": {}}
    assert requests.count == 3


async def test_a_change_is_not_repeated(under_test: JetStream) -> None:
    """Its caller knows whether it may happen twice."""
    requests = _requests(under_test, BUSY)
    with pytest.raises(TemporarilyUnavailableError, match="temporarily unavailable"):
        await under_test.api("STREAM.PURGE.S")
    assert requests.count == 1


async def test_a_read_is_given_up(under_test: JetStream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jetstream, "_REQUEST_TIMEOUT_S", 0.02)
    requests = _requests(under_test, BUSY)
    with pytest.raises(TemporarilyUnavailableError):
        await under_test.api("STREAM.INFO.S")
    assert requests.count > 1


async def test_other_refusals_are_final(under_test: JetStream) -> None:
    requests = _requests(under_test, UNKNOWN)
    with pytest.raises(JetStreamError, match="stream not found"):
        await under_test.api("STREAM.INFO.S")
    assert requests.count == 1
