"""Pages of earlier front ends where code that is right for most runs goes wrong."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from harness.http.front_end import FrontEnd, front_end
from harness.nats.server import NatsServer
from harness.processes.api_process import ApiProcess
from harness.processes.polling import until
from harness.processes.tailrace_up import TailraceUp
from tailrace import Client

pytestmark = pytest.mark.timeout(300)

_WAIT_S: Final = 120.0
# The list of paused workflows, which removes all entries of an execution that is resumed.
_PAUSED: Final = """
let list = [];
const show = (e) => note('list', { lastEventId: e.lastEventId, data: JSON.stringify(list) });
const remove = (e) => {
  const { executionId } = JSON.parse(e.data);
  list = list.filter((w) => w.executionId !== executionId);
  show(e);
};
const eventSource = new EventSource('/api/workflow/paused-stream');
eventSource.addEventListener('paused.initial', (e) => {
  list = JSON.parse(e.data).pausedWorkflows;
  show(e);
});
eventSource.addEventListener('workflow.paused', (e) => {
  list = [...list, JSON.parse(e.data)];
  show(e);
});
eventSource.addEventListener('workflow.resumed', remove);
eventSource.addEventListener('workflow.cancelled', remove);
"""
# Runs a flow and watches it; a node spins from its Before to its After.
_WATCHED: Final = """
const state = { execution: null, toast: null, spinning: [] };
const take = ({ type, data }) => {
  if (type === 'executionStarted') state.execution = data.execution_id;
  if (type === 'nodeExecutionBefore') state.spinning.push(data.node_id);
  if (type === 'nodeExecutionAfter')
    state.spinning = state.spinning.filter((id) => id !== data.node_id);
  if (type === 'executionFinished') state.toast = 'success';
  if (type === 'executionError') state.toast = data.status ?? 'error';
  note('state', { lastEventId: '', data: JSON.stringify(state) });
};
(async () => {
  const response = await fetch('/api/v1/executions/stream', {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ flow_id: 'FLOW', input_data: {} }),
  });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let buffer = ''; ; ) {
    const { value, done } = await reader.read();
    if (done) break;
    buffer += value;
    const blocks = buffer.split('\\n\\n');
    buffer = blocks.pop();
    for (const block of blocks)
      for (const line of block.split('\\n'))
        if (line.startsWith('data: ')) take(JSON.parse(line.slice(6)));
  }
})();
"""
_PIPELINES: Final = """
const ids = Array.from({ length: 300 }, (_, number) => `p${number}`).join(',');
const eventSource = new EventSource(`/ui-api/pipeline/status/stream?pipelineIds=${ids}`);
eventSource.addEventListener('stream:refused', (e) => note('refused', e));
eventSource.onerror = () =>
  note('state', { lastEventId: '', data: JSON.stringify(eventSource.readyState) });
"""
_FULL: Final = """
const url = '/api/realtime/events?merchantId=merchant-7';
const first = new EventSource(url);
first.onmessage = () => {
  first.onmessage = null;
  const second = new EventSource(url);
  second.addEventListener('stream:refused', (e) => {
    note('refused', e);
    first.close();
  });
  second.onmessage = (e) => note('message', e);
};
"""
_CLOSED: Final = 2


async def _shows(page: FrontEnd, name: str, is_right: Callable[[Any], bool]) -> Any:
    """Wait until the last note of a name is right; return it."""
    await page.seen(name, least=1)

    async def is_shown() -> bool:
        return is_right((await page.seen(name))[-1]["data"])

    await until(is_shown, _WAIT_S)
    return (await page.seen(name))[-1]["data"]


async def test_a_run_with_two_waits_stays_in_the_list_until_the_last(system: TailraceUp) -> None:
    """After one of them was resumed, the page knows the other."""
    nodes = {name: {"type": "await", "with": {"reason": name}} for name in ("legal", "finance")}
    with Client(system.url) as client:
        client.apply({"id": "two-waits", "nodes": nodes})
        async with front_end(_PAUSED, system.port, system.port + 1) as page:
            await page.seen("list", least=1)
            execution = str(client.run("two-waits", {})["execution_id"])

            def waits(shown: Any) -> list[str]:
                mine = [each for each in shown if each["executionId"] == execution]
                return sorted(each["pausedAt"] for each in mine)

            await _shows(page, "list", lambda shown: waits(shown) == ["finance", "legal"])
            client.resume(execution, "legal")
            await _shows(page, "list", lambda shown: waits(shown) == ["finance"])
            client.resume(execution, "finance")
            await _shows(page, "list", lambda shown: waits(shown) == [])


@pytest.mark.parametrize("end", ["cancelled", "failed"])
async def test_a_run_that_does_not_succeed_is_no_success(system: TailraceUp, end: str) -> None:
    """No node spins any more, and the page reports no success."""
    node = {"type": "await"} if end == "cancelled" else {"type": "fail", "with": {"message": "x"}}
    with Client(system.url) as client:
        client.apply({"id": f"to-be-{end}", "nodes": {"n": node}})
        script = _WATCHED.replace("FLOW", f"to-be-{end}")
        async with front_end(script, system.port, system.port + 1) as page:
            if end == "cancelled":
                running = await _shows(page, "state", lambda state: state["spinning"] == ["n"])
                client.cancel(running["execution"])
            ended = await _shows(page, "state", lambda state: state["toast"] is not None)
    assert ended["toast"] != "success"
    assert ended["spinning"] == []


async def test_a_page_of_300_pipelines_learns_the_limit(system: TailraceUp) -> None:
    """The reason is in the stream, and the EventSource stops."""
    async with front_end(_PIPELINES, system.port, system.port + 1) as page:
        (refusal,) = await page.seen("refused", least=1)
        await _shows(page, "state", lambda state: bool(state == _CLOSED))
        assert len(await page.seen("refused")) == 1
    assert (refusal["data"]["reason"], refusal["data"]["retry_ms"]) == ("too_many", None)


async def test_a_tenant_at_its_limit_is_served_when_there_is_room(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    """The second stream learns the reason, and opens by itself once the first one has closed."""
    settings = {"max_tenant_streams": "1", "retry": "200ms"}
    with ApiProcess(nats_server.url, tmp_path, **settings) as api:
        async with front_end(_FULL, api.port) as page:
            (refusal, *_) = await page.seen("refused", least=1)
            (connected,) = await page.seen("message", least=1)
    assert refusal["data"]["reason"] == "tenant_full"
    assert refusal["data"]["detail"] == "the limit TAILRACE_MAX_TENANT_STREAMS is reached"
    assert connected["data"]["type"] == "connected"
