"""Events of earlier worker versions are shown as far as possible."""

import pytest
from nats.aio.client import Client

from harness.generators.hand_written_log import NOW, HandWrittenLog
from harness.processes.api_process import ApiProcess
from harness.sse.client import SseClient
from tailrace_shared.execution import events as ev

PATH = "/api/workflow/paused-stream"


def _waiting() -> ev.Event:
    wait = ev.StepWait("approve", "await", "waiting", None, "signal", reason="approval")
    return ev.StepWaiting(wait, NOW)


@pytest.mark.parametrize(
    "end",
    [
        ev.ExecutionFailed(ev.Failed("e", "failed", 1, "no"), NOW),
        ev.ExecutionCancelled(ev.Cancelled("e", "cancelled", 1), NOW),
    ],
)
async def test_an_end_without_waiting_steps_ends_all_waits(
    api: ApiProcess, nats_client: Client, tenant: str, end: ev.Event
) -> None:
    """A new stream of an open topic does not show them any more."""
    headers = {"x-organization-id": tenant}
    old, other = HandWrittenLog(nats_client, tenant), HandWrittenLog(nats_client, tenant)
    async with SseClient(api.port, PATH, headers=headers) as early:
        await early.take(1)
        for log in (old, other):
            await log.begin()
            await log.commit(_waiting())
            if log is old:
                await log.commit(end)
        shown = [event.json()["executionId"] for event in await early.take(2)]
        assert shown == [old.execution, other.execution]
        async with SseClient(api.port, PATH, headers=headers) as late:
            (initial,) = await late.take(1)
        assert [each["executionId"] for each in initial.json()["pausedWorkflows"]] == [
            other.execution
        ]
