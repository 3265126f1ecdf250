"""Values marked as sensitive are in the log, and on no stream and no page."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from harness.generators.workflows import definition
from harness.processes.api_process import ApiProcess
from harness.processes.installation import TENANT, Installation
from harness.sse.client import SseClient
from tailrace_shared.commands.execution_commands import Caller, Decision
from tailrace_shared.execution.commits import encode_commits
from tailrace_shared.execution.events import StepWaiting
from tailrace_shared.execution.state import ExecutionState, fold
from tailrace_shared.workflow.definition import Definition

CARD = "4111-9999-1234"
MARKED = {"sensitive": True}
INPUT = {"card": CARD, "limit": 88431, "n": 7, "kids": [{"name": "tim"}, {"name": "ida"}]}
HIDDEN = (
    *(CARD, "88431", "AT61-1904", "77431", "99117", "actors-own", "ssn-tim", "ssn-ida"),
    *("code-tim", "code-ida", "0815-pin", "from-the-trigger", "the-child-says", "large-own"),
)
"""Pieces of all that is marked: none may be shown."""
OPEN = ("ann", "tim", "ida", '"n":7', "xxx", "is-open")
"""Some of what is not marked."""


def main(child: str = "child") -> Definition:
    """Return a workflow that marks in every way, and copies in every way."""
    kids = {
        "for_each": "input.kids",
        "do": {"type": "bank.kid", "with": {"item": "${item}"}, "sensitive": ["/code"]},
    }
    form = {"type": "object", "properties": {"pin": MARKED, "note": {"type": "string"}}}
    nodes: dict[str, Any] = {
        "lookup": {
            "type": "bank.lookup",
            "with": {"card": "${input.card}", "expected": CARD[::-1]},
            "sensitive": ["/iban", "/rows/*/pin"],
        },
        "echo": {"type": "bank.echo", "with": {"value": "${nodes.lookup.output.iban}"}},
        "number": {"type": "transform", "with": {"value": {"l": "${input.limit}", "n": 1}}},
        "fails": {
            "type": "bank.fail",
            "with": {"value": "${input.card}"},
            "retry": {"max_attempts": 2, "initial": "10ms"},
        },
        "large": {"type": "bank.large", "with": {"value": "large-own"}, "sensitive": ["/value"]},
        "large_copy": {"type": "bank.large", "with": {"value": "${input.card}"}},
        "actor": {
            "type": "bank.actor",
            "with": {"value": "${input.card}"},
            "sensitive": ["/own"],
        },
        "kids": {"type": "map", "with": kids, "sensitive": ["/*/ssn"]},
        "each": {
            "type": "map",
            "with": {
                "for_each": "nodes.lookup.output.rows",
                "do": {"type": "bank.echo", "with": {"value": "${item.pin}"}},
            },
        },
        "say": {"type": "log", "with": {"message": "card ${input.card} of ${input.n}"}},
        "child": {"type": "workflow", "with": {"id": child, "input": {"number": "${input.card}"}}},
        "approve": {
            "type": "await",
            "with": {"reason": "approve ${input.card}?", "form": form},
        },
        "notified": {
            "type": "await",
            "with": {"triggers": ["bank.notified"], "match": "event.card == input.card"},
            "sensitive": ["/event/extra"],
            "needs": ["approve"],
        },
        "after": {
            "type": "transform",
            "with": {"value": "${nodes.approve.output.data}"},
        },
    }
    for node in nodes.values():
        text = str(node["with"])
        needs = [other for other in nodes if f"nodes.{other}." in text]
        if needs:
            node["needs"] = [*node.get("needs", []), *needs]
    schema = {"type": "object", "properties": {"card": MARKED, "limit": MARKED}}
    nodes["fails_after"] = {
        "type": "transform",
        "with": {"value": "${nodes.fails.error}"},
        "needs": ["fails", "notified", "after", "actor", "each", "kids", "child"],
        "join": "all_done",
    }
    return definition(nodes, id="main", input=schema)


def child() -> Definition:
    """Return what the child run runs; it marks its own output."""
    nodes: dict[str, Any] = {
        "echo": {"type": "bank.echo", "with": {"value": "${input.number}"}},
        "own": {"type": "transform", "with": {"value": "the-child-says"}, "sensitive": True},
    }
    return definition(nodes, id="child", output={"own": "${nodes.own.output}", "n": 7})


@pytest.fixture
async def api(site: Installation, tmp_path: Path) -> AsyncIterator[ApiProcess]:
    """An API on the same NATS."""
    settings = {"prefix": site.subjects.prefix, "heartbeat": "200ms", "retry": "20ms"}
    with ApiProcess(site.nats.url, tmp_path, **settings) as process:
        yield process


async def waiting(site: Installation, execution: str, node: str) -> None:
    """Wait until a step waits for a signal, and can be found."""
    await site.until(
        execution,
        lambda events: any(isinstance(e, StepWaiting) and e.data.node_id == node for e in events),
    )
    await site.waits(execution, [node])


class Pages:
    """All that the API shows of an installation's executions."""

    def __init__(self, api: ApiProcess) -> None:
        self._api = api
        self.seen: dict[str, str] = {}

    async def get(self, *paths: str) -> None:
        """Keep some pages."""
        async with httpx.AsyncClient(base_url=self._api.url, timeout=60) as client:
            for path in paths:
                answer = await client.get(path)
                assert answer.status_code == 200, (path, answer.text)
                self.seen[f"{path} {len(self.seen)}"] = answer.text

    async def stream(self, path: str) -> None:
        """Keep what a stream says from its beginning for a while, or to its end."""
        client = SseClient(self._api.port, path)
        text = ""
        async with client:
            try:
                async with asyncio.timeout(1.5):
                    while (events := await client.read()) is not None:
                        text += "".join(f"{event.type} {event.data}\n" for event in events)
            except TimeoutError:
                pass
        self.seen[f"{path} {len(self.seen)}"] = text

    def leaks(self) -> list[tuple[str, str]]:
        """Return the places that show a sensitive value, with that value."""
        return [(page, word) for page, text in self.seen.items() for word in HIDDEN if word in text]


def document(execution: str) -> str:
    """Return the path of a run's document with its log."""
    return f"/api/v1/executions/{execution}?include_logs=true"


async def run_to_the_end(site: Installation, pages: Pages | None = None) -> tuple[str, str]:
    """Run the workflow, look at all pages on the way; return the execution and its child."""
    await site.store(child())
    execution = await site.start(await site.store(main()), INPUT)
    await waiting(site, execution, "approve")
    await look(pages, execution)
    data = {"pin": "0815-pin", "note": f"for {CARD}"}
    await site.commander.resolve(TENANT, execution, Decision("approve", "approved", data), Caller())
    await waiting(site, execution, "notified")
    await look(pages, execution)
    event = {"card": CARD, "extra": {"x": "from-the-trigger"}, "open": "is-open"}
    assert await site.signals.emit(TENANT, "bank.notified", event) == 1
    state = fold(await site.finished(execution))
    (kid,) = [c.data.child_execution_id for c in await site.events(execution)
              if isinstance(c, StepWaiting) and c.data.child_execution_id]  # fmt: skip
    assert state.status == "failed"  # as one of its steps is meant to
    await look(pages, execution, kid)
    return execution, kid


async def look(pages: Pages | None, *executions: str) -> None:
    """Look at every page and stream that there is."""
    if pages is None:
        return
    for execution in executions:
        await pages.get(document(execution))
        await pages.stream(f"/api/v1/sse/executions/{execution}/stream")
        await pages.stream(f"/api/v1/sse/stream?topics=execution:{execution},paused,feed")
    await pages.get("/api/v1/waiting", "/api/workflow/paused", "/api/v1/executions")
    await pages.stream("/api/workflow/paused-stream")
    await pages.stream(f"/api/realtime/events?merchantId={TENANT}")


async def test_nothing_that_is_marked_is_shown_anywhere(site: Installation, api: ApiProcess):
    """Inputs, outputs, copies, messages, errors, signals, maps, children, large outputs."""
    site.worker(nodes="sensitive_functions")
    pages = Pages(api)
    execution, _kid = await run_to_the_end(site, pages)
    steps = ["lookup", "echo", "large", "large_copy", "actor", "kids", "kids[0]", "each", "approve"]
    await pages.get(*(f"/api/v1/executions/{execution}/steps/{step}/output" for step in steps))
    assert pages.leaks() == []
    text = "".join(pages.seen.values())
    assert [word for word in OPEN if word not in text] == []


async def test_the_engine_works_with_the_real_values(site: Installation):
    """The log has them, so the next driver has them too."""
    site.worker(nodes="sensitive_functions")
    execution, kid = await run_to_the_end(site)
    state = await site.state(execution)
    assert state.input == INPUT
    assert state.steps["echo"].output["copied"] == "AT61-1904-3002"
    assert state.steps["large_copy"].output["value"] == CARD
    assert state.steps["after"].output == {"pin": "0815-pin", "note": f"for {CARD}"}
    assert state.steps["each"].output[1]["copied"] == 99117
    assert (await site.state(kid)).input == {"number": CARD}


async def test_marks_say_where_things_are(site: Installation):
    """Unmarked values stay readable, in the same output."""
    site.worker(nodes="sensitive_functions")
    execution, kid = await run_to_the_end(site)
    state = await site.state(execution)
    assert marks(state) == {
        "lookup": ["/iban", "/rows/0/pin", "/rows/1/pin"],
        "echo": ["/copied", "/list/0", "/within"],
        "number": ["/l"],
        "large": ["/value"],
        "large_copy": ["/value"],
        "actor": ["/copied", "/own"],
        "kids": ["/0/code", "/0/ssn", "/1/code", "/1/ssn"],
        "kids[0]": ["/code", "/ssn"],
        "kids[1]": ["/code", "/ssn"],
        "each": [f"/{i}/{place}" for i in range(2) for place in ("copied", "list/0", "within")],
        "each[0]": ["/copied", "/list/0", "/within"],
        "each[1]": ["/copied", "/list/0", "/within"],
        "child": ["/own"],
        "approve": ["/data/note", "/data/pin"],
        "notified": ["/event/card", "/event/extra"],
        "after": ["/note", "/pin"],
    }
    assert state.steps["fails"].error == "attempt 2 with ***"
    assert state.steps["each"].items_sensitive == ["/0/pin", "/1/pin"]
    assert (await site.state(kid)).sensitive == ["/number"]


def marks(state: ExecutionState) -> dict[str, list[str]]:
    """Return what is marked of each step's output."""
    return {step.node_id: step.sensitive for step in state.steps.values() if step.sensitive}


async def test_a_rerun_keeps_the_marks(site: Installation, api: ApiProcess):
    """Of the input, and of the outputs that it keeps."""
    site.worker(nodes="sensitive_functions")
    nodes: dict[str, Any] = {
        "a": {"type": "transform", "with": {"value": {"x": "AT61-1904"}}, "sensitive": ["/x"]},
        "b": {"type": "bank.echo", "with": {"value": "${input.card}"}, "needs": ["a"]},
    }
    schema = {"properties": {"card": MARKED}}
    workflow = await site.store(definition(nodes, input=schema))
    execution = await site.start(workflow, {"card": CARD})
    await site.finished(execution)
    again = (await site.starter.rerun(TENANT, execution, "b", None)).execution_id
    state = fold(await site.finished(again))
    assert (state.sensitive, state.steps["a"].sensitive) == (["/card"], ["/x"])
    assert state.steps["a"].kept_from == execution
    pages = Pages(api)
    await look(pages, execution, again)
    assert pages.leaks() == []


async def test_the_next_driver_finds_copies_as_well(site: Installation, api: ApiProcess):
    """Marked values are in the log, so the next worker looks for the same values."""
    first = site.worker(nodes="sensitive_functions")
    nodes: dict[str, Any] = {
        "lookup": {
            "type": "bank.lookup",
            "with": {"card": "${input.card}", "expected": CARD[::-1]},
            "sensitive": ["/iban"],
        },
        "large": {
            "type": "bank.large",
            "with": {"value": "${nodes.lookup.output.iban}"},
            "sensitive": ["/value"],
            "needs": ["lookup"],
        },
        "wait": {"type": "await", "needs": ["large"]},
        "copy": {
            "type": "bank.echo",
            "with": {"value": "${nodes.large.output.value}"},
            "needs": ["wait", "large"],
        },
    }
    execution = await site.start(await site.store(definition(nodes)), {"card": CARD})
    await waiting(site, execution, "wait")
    first.kill()
    site.worker(nodes="sensitive_functions")
    await site.commander.resolve(TENANT, execution, Decision("wait"), Caller())
    state = fold(await site.finished(execution))
    assert state.steps["copy"].sensitive == ["/copied", "/list/0", "/within"]
    pages = Pages(api)
    await look(pages, execution)
    assert [page for page, word in pages.leaks() if word == "AT61-1904"] == []


async def test_what_is_emitted_stays_marked(site: Installation):
    """It is marked in every receiving execution, although that definition marks nothing."""
    site.worker(nodes="sensitive_functions")
    awaits = definition(
        {"notified": {"type": "await", "with": {"triggers": ["bank.news"]}}}, id="a"
    )
    receiver = await site.start(await site.store(awaits))
    await waiting(site, receiver, "notified")
    data = {"card": "${input.card}", "small": "${input.small}", "n": 1}
    nodes = {"tell": {"type": "emit", "with": {"procedure": "bank.news", "data": data}}}
    schema = {"properties": {"card": MARKED, "small": MARKED}}
    sender = await site.begin(nodes, {"card": CARD, "small": 5}, input=schema)
    await site.finished(sender)
    state = fold(await site.finished(receiver))
    assert state.steps["notified"].output["event"] == {"card": CARD, "small": 5, "n": 1}
    assert state.steps["notified"].sensitive == ["/event/card", "/event/small"]
    assert state.output_sensitive == ["/notified/event/card", "/notified/event/small"]


async def test_a_schedule_is_shown_without_what_its_workflow_marks(
    site: Installation, api: ApiProcess
):
    """If the workflow is unknown, the whole input is masked."""
    await site.store(definition({"a": {}}, id="paid", input={"properties": {"card": MARKED}}))
    body = {
        "id": "s",
        "workflow_id": "paid",
        "cron": "@every 1h",
        "input": {"card": CARD, "n": 1},
    }
    async with httpx.AsyncClient(base_url=api.url, timeout=60) as client:
        posted = await client.post("/api/v1/schedules", json=body)
        assert posted.json()["input"] == {"card": "***", "n": 1}
        listed = await client.get("/api/v1/schedules")
        assert listed.json()["schedules"][0]["input"] == {"card": "***", "n": 1}
        await site.workflows.delete(TENANT, "paid")
        gone = await client.get("/api/v1/schedules/s")
        assert gone.json()["input"] == "***"


async def test_an_execution_without_marks_has_an_unchanged_log(site: Installation):
    """The log has the same bytes as without the feature."""
    site.worker(nodes="sensitive_functions")
    nodes = {"echo": {"type": "bank.echo", "with": {"value": "${input.card}"}}}
    events = await site.finished(await site.begin(nodes, {"card": CARD}))
    assert all(b'"sensitive"' not in payload for payload in encode_commits(events))
