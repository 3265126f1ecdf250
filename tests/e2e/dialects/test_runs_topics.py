"""Lists of runs and statistics as topics, on real services."""

from typing import Any

from harness.sse.client import SseEvent
from harness.sse.tenant_client import StreamReader, TenantClient

PATH = "/api/v1/sse/stream?topics="
ORDER = {
    "parse": {"type": "transform", "with": {"value": 1}},
    "approve": {"type": "await", "needs": ["parse"], "with": {"reason": "approval"}},
}
# What lists know of a live run for a moment only.
MOMENTARY = ("progress", "eta_ms")


class Page:
    """A page that shows the runs of a topic.

    Attributes:
        runs: the runs by execution id, as the page has kept them.
    """

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, Any]] = {}

    def take(self, name: str, data: dict[str, Any]) -> None:
        """Take a block of the topic."""
        if name == "runs.initial":
            self.runs = {run["execution_id"]: run for run in data["runs"]}
        else:
            assert name == "run"
            self.runs.setdefault(data["execution_id"], {}).update(data)

    def lasting(self) -> dict[str, dict[str, Any]]:
        """Return the runs without what lists know for a moment only."""
        return {
            execution: {
                name: value for name, value in run.items() if value and name not in MOMENTARY
            }
            for execution, run in self.runs.items()
        }


async def until(
    stream: StreamReader, pages: dict[str, Page], topic: str, text: str
) -> list[SseEvent]:
    """Read into some pages until a topic has said a text; return what was read."""
    events: list[SseEvent] = []
    while not events or events[-1].type != topic or text not in events[-1].data:
        event = await stream.next()
        events.append(event)
        if event.type in pages:
            pages[event.type].take(event.json()["event"], event.json()["data"])
    return events


async def start(stage: TenantClient, *tags: str) -> str:
    """Start a run with tags; return its execution id."""
    started = await stage.post("/api/v1/workflows/order/runs", tags=list(tags))
    execution: str = started["execution_id"]
    return execution


async def paused(stage: TenantClient, execution: str) -> None:
    """Wait until an execution waits for its approval."""
    async with stage.stream("/api/workflow/paused-stream") as watched:
        while execution not in (await watched.next()).data:
            pass


async def test_each_list_begins_with_its_runs_and_is_kept_up_to_date(stage: TenantClient):
    """By workflow and by tag; a page that begins later, on another replica, has the same."""
    await stage.store("order", ORDER, tags=["orders"])
    first = await start(stage, "vip")
    await paused(stage, first)
    topics = ["runs", "runs:none", "runs:order", "stats", "tag:orders", "tag:vip"]
    pages = {topic: Page() for topic in topics if topic != "stats"}
    async with stage.stream(PATH + ",".join(topics)) as stream:
        opening = await until(stream, pages, "tag:vip", "runs.initial")
        for topic in ("runs", "runs:order", "tag:orders", "tag:vip"):
            (run,) = pages[topic].runs.values()
            assert (run["execution_id"], run["status"], run["waits"]) == (first, "paused", 1)
            assert run["tags"] == ["orders", "vip"]
        assert pages["runs:none"].runs == {}
        (stats,) = [event.json()["data"] for event in opening if event.type == "stats"]
        assert stats["active_runs"] == 1
        second = await start(stage)
        await paused(stage, second)
        await stage.post(f"/api/v1/executions/{first}/resume", decision="approved")
        # The topic whose slot is the last of an event.
        later = await until(stream, pages, "tag:vip", '"status":"completed"')
    assert pages["runs"].lasting() == pages["runs:order"].lasting()
    assert pages["runs"].runs.keys() == {first, second}
    assert pages["tag:vip"].runs.keys() == {first}
    assert pages["runs"].runs[second]["status"] == "paused"
    ended = [event.json()["data"] for event in later if event.type == "stats"]
    assert [(run["execution_id"], run["status"]) for run in ended] == [
        (second, "queued"),
        (first, "completed"),
    ]
    fresh = {topic: Page() for topic in pages}
    async with stage.stream(PATH + ",".join(topics), replica=1) as stream:
        opening = await until(stream, fresh, "tag:vip", "runs.initial")
    assert {topic: page.lasting() for topic, page in fresh.items()} == {
        topic: page.lasting() for topic, page in pages.items()
    }
    (stats,) = [event.json()["data"] for event in opening if event.type == "stats"]
    assert stats["active_runs"] == 1


async def test_another_replica_resumes_after_any_id(stage: TenantClient):
    """Without the lists, and with every later change once."""
    await stage.store("order", ORDER)
    topics = "runs,stats,tag:vip"
    async with stage.stream(PATH + topics) as stream:
        start_id = await stream.primed()
        execution = await start(stage, "vip")
        await paused(stage, execution)
        await stage.post(f"/api/v1/executions/{execution}/cancel")
        events = await until(stream, {}, "tag:vip", '"status":"cancelled"')
    logged = [event for event in events if event.own_id and event.id != start_id]
    logged = [event for event in logged if "initial" not in event.json()["event"]]
    assert {event.type for event in logged} == {"runs", "stats", "tag:vip"}
    for position in (0, len(logged) // 2, len(logged) - 2):
        async with stage.stream(PATH + topics, logged[position].id, replica=1) as resumed:
            rest = await resumed.take(len(logged) - position - 1)
        assert [(event.id, event.data) for event in rest] == [
            (event.id, event.data) for event in logged[position + 1 :]
        ]


async def test_runs_are_listed_by_tag(stage: TenantClient):
    """As the topic shows them, in the list and in the document of the run."""
    await stage.store("order", ORDER, tags=["orders"])
    tagged, other = await start(stage, "vip", "orders"), await start(stage)
    for tag, executions in (("vip", [tagged]), ("orders", [other, tagged]), ("none", [])):
        answer = await stage.http.get("/api/v1/executions", params={"tag": tag})
        assert [run["execution_id"] for run in answer.json()["runs"]] == executions
    document = await stage.http.get(f"/api/v1/executions/{tagged}")
    assert document.json()["tags"] == ["orders", "vip"]
    refused = await stage.http.post(
        "/api/v1/workflows/order/runs", json={"tags": ["a b", "vip", "vip"]}
    )
    assert refused.status_code == 422
    assert [error["pointer"] for error in refused.json()["errors"]] == ["/tags/0", "/tags/2"]
    wrong = await stage.http.get("/api/v1/executions", params={"created_after": "yesterday"})
    assert (wrong.status_code, "RFC 3339" in wrong.json()["detail"]) == (400, True)
