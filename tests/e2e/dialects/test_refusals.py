"""Streams that cannot be served: the reason is in the stream, where an EventSource can read it."""

from urllib.parse import quote

import pytest

from harness.sse.client import SseClient
from harness.sse.tenant_client import TenantClient

_PIPELINES = "/ui-api/pipeline/status/stream?pipelineIds="
_MANY = _PIPELINES + ",".join(f"p{number}" for number in range(201))
_TOPICS = "/api/v1/sse/stream?topics="
_MANY_TOPICS = _TOPICS + ",".join(f"execution:e{number}" for number in range(9))
_STREAMS = (
    "/api/workflow/paused-stream",
    "/api/realtime/events",
    f"{_PIPELINES}a",
    f"{_TOPICS}paused,feed",
)


def _open(
    stage: TenantClient, path: str, last_event_id: str = "", accept: str = "*/*"
) -> SseClient:
    headers = {"x-organization-id": stage.tenant, "accept": accept}
    return SseClient(stage.ports[0], path, last_event_id=last_event_id, headers=headers)


@pytest.mark.parametrize(
    ("path", "accept", "reason", "words"),
    [
        (_MANY, "*/*", "too_many", "201 ids exceed the limit of 200"),
        (_MANY_TOPICS, "*/*", "too_many", "9 are more than 8"),
        (f"{_PIPELINES}{quote('ä')}", "text/event-stream", "invalid_request", "is not an id"),
        (f"{_TOPICS}paused,nothing", "text/event-stream", "invalid_request", "is no topic"),
        (f"{_PIPELINES}a&pipelineIds=b", "text/event-stream", "invalid_request", "is repeated"),
    ],
    ids=["pipelines", "topics", "id", "topic", "repeated"],
)
async def test_a_request_that_cannot_be_served_is_refused_once(
    stage: TenantClient, path: str, accept: str, reason: str, words: str
) -> None:
    """A reconnect with the id of the refusal is 204; the id means nothing to another request."""
    async with _open(stage, path, accept=accept) as stream:
        (refusal,) = await stream.all()
    assert stream.status == 200
    assert (refusal.type, refusal.own_id) == ("stream:refused", True)
    assert (refusal.json()["reason"], refusal.json()["retry_ms"]) == (reason, None)
    assert words in refusal.json()["detail"]
    async with _open(stage, path, refusal.id, accept) as stream:
        await stream.all()
    assert stream.status == 204
    async with _open(stage, f"{_PIPELINES}a", refusal.id) as stream:
        assert (await stream.take(1))[0].json() == {"reason": "unknown", "from": None}


async def test_a_malformed_request_is_a_problem_for_other_clients(stage: TenantClient) -> None:
    """They can read a status and a body, which an EventSource cannot."""
    answer = await stage.http.get(f"{_TOPICS}nothing")
    assert answer.status_code == 400
    assert "is no topic" in answer.json()["detail"]


@pytest.mark.parametrize("path", _STREAMS)
async def test_a_stream_ignores_unknown_parameters(stage: TenantClient, path: str) -> None:
    """Front ends add some, for example to avoid a cache."""
    path += ("&" if "?" in path else "?") + "_=1"
    async with stage.stream(path) as stream:
        await stream.primed()
        assert stream.status == 200


async def test_a_visible_id_that_is_no_pipeline_of_the_stream_is_reported(
    stage: TenantClient,
) -> None:
    """Updates of it never come, so silence would hide the mistake."""
    await stage.store("a", {"n": {"type": "log", "with": {"message": "x"}}})
    async with stage.stream(f"{_PIPELINES}a&visible=a,b") as stream:
        batch, error = await stream.take(2)
    assert batch.type == "batch_update"
    assert error.type == "error"
    assert error.json()["pipelineId"] == "b"
    assert error.json()["message"] == "visible: 'b' is not in pipelineIds"
