"""An older leader is not believed that there is no message: it may lack what the cluster stored."""

from collections.abc import Sequence
from typing import Any

import pytest

from harness.fakes.virtual_time import run_in_virtual_time
from tailrace_shared.errors import JetStreamError, UnavailableError
from tailrace_shared.nats.jetstream import STREAM_NOT_FOUND, JetStream, StoredMessage

_SECOND_NS = 1_000_000_000


class ScriptedJetStream(JetStream):
    """Answers requests for a message, and for info, from two scripts; repeats the last answer.

    Args:
        messages: whether each answer has a message; None if it is that there is no such stream.
        infos: the answers to requests for info.
    """

    def __init__(self, messages: Sequence[bool | None], infos: Sequence[dict[str, Any]]) -> None:
        self._messages, self._infos = list(messages), list(infos)

    async def api(self, action: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        del body
        if action.startswith("STREAM.INFO"):
            answer: dict[str, Any] = _next(self._infos)
            return answer
        found = _next(self._messages)
        if found is None:
            raise JetStreamError(STREAM_NOT_FOUND, "stream not found")
        if not found:
            raise JetStreamError(10037, "no message found")
        return {"message": {"seq": 7, "subject": "s", "time": "2026-01-01T00:00:00Z"}}

    def newest(self, *, is_optional: bool = False) -> StoredMessage | None:
        return run_in_virtual_time(
            self.get_newest("S", {"last_by_subj": "s"}, is_optional=is_optional)
        )


def _next(script: list[Any]) -> Any:
    return script.pop(0) if len(script) > 1 else script[0]


def info(*ages_s: float) -> dict[str, Any]:
    """Return the info of a stream whose leader heard from its replicas some seconds ago."""
    replicas = [{"name": f"n{age}", "active": int(age * _SECOND_NS)} for age in ages_s]
    return {"cluster": {"leader": "n", "replicas": replicas}}


def test_a_message_needs_no_quorum() -> None:
    """A message of a leader is stored, also if there are other leaders."""
    assert ScriptedJetStream([True], [info(60, 60)]).newest() is not None


@pytest.mark.parametrize("cluster", [{}, {"cluster": {"leader": "n"}}, info(0.2, 60)])
def test_absence_is_believed_of_the_only_leader(cluster: dict[str, Any]) -> None:
    """A stream has no other leader if it has one replica, or if a majority answers its leader."""
    assert ScriptedJetStream([False], [cluster]).newest() is None


def test_an_older_leader_is_asked_again_until_another_answers() -> None:
    """A server that was frozen answers for its old term before it hears of the new one."""
    jetstream = ScriptedJetStream([False, True], [info(13, 13), info(14, 14), info(0.1, 1)])
    assert jetstream.newest() is not None


@pytest.mark.parametrize(
    "cluster", [info(13, 13), {"cluster": {**info(1, 1)["cluster"], "leader": ""}}]
)
def test_without_a_quorum_nothing_is_known(cluster: dict[str, Any]) -> None:
    """A partition may last. Then the caller must not conclude anything."""
    with pytest.raises(UnavailableError):
        ScriptedJetStream([False], [cluster]).newest()


def test_a_stream_that_a_busy_cluster_does_not_know_yet_is_asked_for_again() -> None:
    """Its own leader has answered that it is created, and the cluster's leader learns it later."""
    assert ScriptedJetStream([None, None, True], [info(1, 1)]).newest() is not None


@pytest.mark.parametrize("is_optional", [True, False])
def test_a_stream_that_does_not_exist_is_an_error(*, is_optional: bool) -> None:
    """At once if the caller knows that it may not exist."""
    jetstream = ScriptedJetStream([None, None if not is_optional else True], [info(1, 1)])
    with pytest.raises(JetStreamError, match="stream not found"):
        jetstream.newest(is_optional=is_optional)
