"""Runs in-process: decisions, time that skips, replaced nodes, crashes, and mistakes of tests."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from tailrace import testing
from tailrace_worker.nodes import NodeContext, NodeFailedError, node

DAY_S = 86400.0
ASK: dict[str, Any] = {
    "id": "ask",
    "nodes": {
        "ask": {
            "type": "await",
            "timeout": "24h",
            "on_timeout": "cancel",
            "with": {
                "form": {
                    "type": "object",
                    "required": ["amount"],
                    "properties": {"amount": {"type": "integer"}, "note": {"default": "none"}},
                }
            },
        },
        "nap": {"type": "delay", "needs": ["ask"], "with": {"duration": "30d"}},
        "done": {"type": "transform", "needs": ["nap"], "with": {"value": "${nodes.ask.output}"}},
    },
    "output": "${nodes.done.output}",
}


def workflow(nodes: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Return a definition."""
    return {"id": "test", "nodes": nodes, **fields}


def test_a_decision_comes_at_its_time():
    """A month passes at once, and the data of the form gets its defaults."""
    script = [testing.after("23h", testing.approve("ask", {"amount": 3}, by="ada"))]
    result = testing.run(ASK, script=script)
    assert result.status == "completed"
    assert result.output == {
        "decision": "approved",
        "data": {"amount": 3, "note": "none"},
        "actor": "ada",
        "event": None,
    }
    assert result.seconds == pytest.approx(30 * DAY_S + 23 * 3600)
    assert result.types[:4] == [
        "execution:queued",
        "execution:started",
        "step:started",
        "step:waiting",
    ]


def test_without_a_decision_the_timeout_ends_the_run():
    """The wait takes a day, and nothing of real time."""
    result = testing.run(ASK)
    assert (result.status, result.error) == ("cancelled", "ask: timed out after 24h")
    assert result.seconds == pytest.approx(DAY_S)
    assert result.steps["done"].status == "cancelled"


def test_a_run_that_waits_for_ever_is_paused():
    """Without a script and without a timeout."""
    result = testing.run(workflow({"ask": {"type": "await"}}))
    assert result.status == "paused"
    assert result.steps["ask"].status == "waiting"


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ([testing.approve("ask", {"amount": "much"})], "'much' is not of type 'integer'"),
        ([testing.after("25h", testing.approve("ask", {"amount": 1}))], "cancelled, and never"),
        ([testing.after("1h", testing.approve("nap"))], "'nap' is pending"),
        ([testing.resume()], "never came to: resume"),
    ],
)
def test_a_script_that_cannot_happen_fails_the_test(script: list[testing.Action], words: str):
    """The message says what the run did instead."""
    with pytest.raises(testing.ScriptError, match=words):
        testing.run(ASK, script=script)


def test_node_types_are_replaced():
    """By a function, an output or an exception."""
    nodes = {
        "get": {"type": "http", "with": {"url": "https://example.com", "json": {"a": 1}}},
        "fixed": {"type": "my.fixed", "needs": ["get"]},
        "bad": {"type": "my.bad", "needs": ["fixed"], "retry": {"max_attempts": 3}},
    }
    seen: list[Any] = []

    def fake_http(url: str, json: Any) -> dict[str, Any]:
        seen.append((url, json))
        return {"status": 200}

    replaced = {"http": fake_http, "my.fixed": [1, 2], "my.bad": NodeFailedError("broken")}
    result = testing.run(workflow(nodes), nodes=replaced)
    assert seen == [("https://example.com", {"a": 1})]
    assert result.steps["fixed"].output == [1, 2]
    assert (result.steps["bad"].error, result.steps["bad"].attempts) == ("broken", 3)
    assert result.error == "bad: broken"


def test_a_test_sends_no_requests_by_mistake():
    """And a node type without a function says how to pass one."""
    nodes = {"get": {"type": "http", "with": {"url": "https://example.com"}}}
    result = testing.run(workflow(nodes))
    assert "nodes={'http'" in (result.error or "")
    with pytest.raises(testing.InvalidWorkflowError, match="no worker provides"):
        testing.run(workflow({"a": {"type": "my.unknown"}}))


@node("my.step")
async def step(ctx: NodeContext, seconds: float = 0) -> int:
    """Sleep, report, and return the attempt."""
    ctx.progress(10, "begun")
    await asyncio.sleep(seconds)
    ctx.log("slept")
    return ctx.attempt


def test_sleeping_functions_take_no_time():
    """Their time limits hold in skipped time."""
    nodes = {
        "quick": {"type": "my.step", "with": {"seconds": 3600}},
        "slow": {"type": "my.step", "with": {"seconds": 3600}, "timeout": "1m"},
        "later": {"type": "my.takes", "needs": ["quick"]},
        "simulated": {"type": "simulate", "with": {"duration": "2h"}},
    }
    replaced = {"my.step": step, "my.takes": lambda: testing.takes("5m", "x")}
    result = testing.run(workflow(nodes), nodes=replaced)
    assert result.steps["quick"].output == 1
    assert result.steps["slow"].error == "timed out after 1m"
    assert result.steps["later"].output == "x"
    assert result.seconds == pytest.approx(7200, abs=1)
    assert {"step:progress", "step:log"} <= set(result.types)


def test_a_thousand_runs_take_two_seconds(record_property: Callable[[str, Any], None]):
    """Of processor time, with twenty steps each; the bound leaves room for busy cores.

    The quickest tenth counts: other processes on the cores disturb it least.
    """
    kinds: list[dict[str, Any]] = [
        {"type": "await", "timeout": "1d", "on_timeout": "continue"},
        {"type": "delay", "with": {"duration": "1h"}},
        *({"type": "transform", "with": {"value": index}} for index in range(2)),
    ]
    nodes = {f"n{at}": {**kinds[at % 4], "needs": [f"n{at - 1}"][:at]} for at in range(20)}
    results: list[testing.Result] = []
    times_s: list[float] = []
    for _ in range(10):
        began = time.process_time()
        results += [testing.run(workflow(nodes)) for _ in range(100)]
        times_s.append(time.process_time() - began)
    whole_s, quickest_s = sum(times_s), 10 * min(times_s)
    record_property(
        "measured", f"1,000 runs of 20 steps: {whole_s:.2f} s CPU, at the best {quickest_s:.2f} s"
    )
    assert quickest_s < 4
    assert {result.status for result in results} == {"completed"}
    assert results[0].seconds == pytest.approx(5 * (DAY_S + 3600))


async def test_a_test_may_be_a_coroutine():
    """Its own loop is left alone."""
    result = testing.run(workflow({"a": {"type": "my.step"}}), nodes=[step])
    assert result.status == "completed"


def test_a_crashed_worker_is_replaced():
    """The attempt is lost, and no failure is counted."""
    nodes = {"a": {"type": "my.step"}, "once": {"type": "my.step", "on_crash": "fail"}}
    script = [testing.crash("a", times=2), testing.crash("once")]
    result = testing.run(workflow(nodes), nodes=[step], script=script)
    assert (result.steps["a"].output, result.steps["a"].attempts) == (3, 3)
    assert result.steps["once"].error == "its worker was lost, and on_crash is fail"


def test_triggers_reach_the_waits_that_match():
    """Also those of the node `emit`, and those that came before the wait."""
    wait = {"triggers": ["go"], "match": "event.n == input.n"}
    nodes = {
        "ask": {"type": "await", "with": wait},
        "emit": {
            "type": "emit",
            "needs": ["ask"],
            "with": {"procedure": "next", "data": {"n": 2}},
        },
        "late": {
            "type": "await",
            "needs": ["emit"],
            "with": {"triggers": ["next"], "lookback": "1m"},
        },
    }
    script = [
        testing.after("1h", testing.trigger("go", {"n": 8})),
        testing.after("2h", testing.trigger("go", {"n": 7})),
    ]
    result = testing.run(workflow(nodes), {"n": 7}, script=script)
    assert result.status == "completed"
    assert result.steps["ask"].output["event"] == {"n": 7}
    assert result.steps["emit"].output == {"matched": 0}
    assert result.steps["late"].output["event"] == {"n": 2}
    assert result.seconds == pytest.approx(7200)


def test_child_runs_are_simulated_as_well():
    """Their waits are decided by the same script; a missing one fails its step."""
    nodes = {
        "child": {"type": "workflow", "with": {"id": "ask", "input": {}}},
        "none": {"type": "workflow", "with": {"id": "none"}, "on_error": "continue"},
    }
    result = testing.run(
        workflow(nodes), workflows=[ASK], script=[testing.approve("ask", {"amount": 1})]
    )
    assert result.status == "completed"
    assert result.steps["child"].output["decision"] == "approved"
    assert "pass it in workflows" in (result.steps["none"].error or "")


def test_a_cancelled_run_cancels_its_child_run_and_tidies_up():
    """As on a worker."""
    nodes = {"child": {"type": "workflow", "with": {"id": "ask", "input": {}}}}
    tidy = {"nodes": {"tidy": {"type": "log", "with": {"message": "${nodes.child.status}"}}}}
    result = testing.run(
        workflow(nodes, **{"finally": tidy}),
        workflows=[ASK],
        script=[testing.after("1h", testing.cancel("no longer needed"))],
    )
    assert (result.status, result.error) == ("cancelled", "no longer needed")
    assert result.steps["child"].status == "cancelled"
    assert result.steps["tidy"].status == "success"


def test_a_pause_holds_the_run_until_it_is_resumed():
    """No timer fires meanwhile."""
    nodes = {"nap": {"type": "delay", "with": {"duration": "1h"}}}
    script = [
        testing.after("30m", testing.pause(by="ada")),
        testing.after("3h", testing.resume(by="ada")),
    ]
    result = testing.run(workflow(nodes), script=script)
    assert result.status == "completed"
    assert result.seconds == pytest.approx(3 * 3600)


def test_inputs_are_checked_and_get_their_defaults():
    """As at the start of a run."""
    schema = {"properties": {"n": {"type": "integer", "default": 4}}}
    nodes = {"a": {"type": "transform", "with": {"value": "${input.n}"}}}
    assert testing.run(workflow(nodes, input=schema)).output == {"a": 4}
    with pytest.raises(testing.InvalidWorkflowError, match="/input/n: 'x' is not of type"):
        testing.run(workflow(nodes, input=schema), {"n": "x"})


def test_secrets_have_values_and_schedules_a_time():
    """A secret that is not given has its name as value; it is redacted in outputs."""
    nodes = {
        "a": {"type": "my.secret", "with": {"token": "${secrets.token}"}},
        "at": {"type": "transform", "with": {"value": "${execution.scheduled_at}"}},
    }
    seen: list[str] = []

    def remember(token: str) -> str:
        seen.append(token)
        return token

    at = "2026-02-03T02:00:00.000Z"
    result = testing.run(
        workflow(nodes),
        nodes={"my.secret": remember},
        secrets={"token": "0123456789"},
        scheduled_at=at,
    )
    assert seen == ["0123456789"]
    assert result.steps["a"].output != "0123456789"
    assert result.steps["at"].output == at


def test_a_context_keeps_what_a_function_reports():
    """For unit tests of functions that take `ctx`."""
    ctx = testing.context(attempt=3)
    assert asyncio.run(step(ctx, 0)) == 3
    assert ctx.reports == [(10, "begun", {})]
    assert ctx.lines == [("info", "slept", {})]


def test_the_plugin_brings_a_fixture(tailrace_run: Callable[..., testing.Result]):
    """Without an import in the test."""
    assert tailrace_run(workflow({"a": {"type": "transform", "with": {"value": 1}}})).output == {
        "a": 1
    }
