"""Steps that do their work for each item of a list."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from harness.generators.workflows import definition
from harness.models.log_conditions import begun, done, of, running
from harness.processes.installation import Installation
from tailrace_shared.execution.events import (
    Event,
    StepCompleted,
    StepEvent,
    StepExpanded,
    StepFailed,
    StepRetrying,
    StepStarted,
)
from tailrace_shared.execution.state import ExecutionState, fold
from tailrace_shared.execution.transitions import SETTLED

NODES = {"nodes": "feature_functions"}
DOUBLE = {"type": "transform", "with": {"value": "${item * 2}"}}


def mapped(do: dict[str, Any], for_each: str = "input", **fields: Any) -> dict[str, Any]:
    """Return a map."""
    return {"type": "map", "with": {"for_each": for_each, "do": do, **fields}}


def until(folder: Path, file: str) -> dict[str, Any]:
    """Return work that runs until there is a file; its name may hold expressions."""
    return {"type": "test.until", "with": {"folder": str(folder), "file": file}}


def begun_again(events: list[Event]) -> bool:
    """Tell whether the items 5, 6 and 7 are in their second attempt."""
    return all(len(of(events, StepStarted, f"a[{index}]")) == 2 for index in (5, 6, 7))


def most_at_once(events: list[Event]) -> int:
    """Return the largest number of items that ran at once."""
    state, most = ExecutionState(), 0
    for event in events:
        state.apply(event)
        if isinstance(event, StepEvent):
            items = [step for step in state.steps.values() if "[" in step.node_id]
            most = max(most, sum(step.status not in SETTLED for step in items))
    return most


async def test_the_outputs_of_a_map_are_in_the_order_of_its_items(site: Installation):
    """The order in which the items end does not matter."""
    site.worker()
    state = await site.run(
        {
            "a": mapped({"type": "transform", "with": {"value": "${index}: ${item.name}"}}),
            "b": {"type": "transform", "needs": ["a"], "with": {"value": "${nodes.a.output[1]}"}},
        },
        [{"name": "x"}, {"name": "y"}, {"name": "z"}],
        output={"all": "${nodes.a.output}", "second": "${nodes.b.output}"},
    )
    assert state.output == {"all": ["0: x", "1: y", "2: z"], "second": "1: y"}


async def test_items_that_end_in_another_order_are_put_in_theirs(
    site: Installation, tmp_path: Path
):
    """The last item ends first."""
    site.worker(**NODES)
    execution = await site.begin({"a": mapped(until(tmp_path, "${item}"))}, ["p", "q", "r"])
    await site.until(execution, begun("a[0]", "a[1]", "a[2]"))
    for index, name in ((2, "r"), (0, "p"), (1, "q")):
        (tmp_path / name).touch()
        await site.until(execution, done(f"a[{index}]"))
    events = await site.finished(execution)
    ended = [e.data.node_id for e in events if isinstance(e, StepCompleted)]
    assert ended == ["a[2]", "a[0]", "a[1]", "a"]
    assert fold(events).output == {"a": [1, 1, 1]}


@pytest.mark.parametrize("limit", [1, 3])
async def test_never_more_items_run_than_the_map_allows(site: Installation, limit: int):
    """As many as allowed run while there are items left."""
    site.worker()
    work = {"type": "simulate", "with": {"duration": "5ms"}}
    state = await site.run({"a": mapped(work, max_parallel=limit)}, list(range(12)))
    assert state.status == "completed"
    assert most_at_once(await site.events(state.execution_id)) == limit


async def test_a_failed_item_fails_the_map_and_begins_no_other(site: Installation, tmp_path: Path):
    """Items that run already may end."""
    site.worker(**NODES)
    execution = await site.begin(
        {
            "a": mapped(
                {"type": "test.until", "with": {"folder": str(tmp_path), "file": "${item.file}"}},
                max_parallel=2,
            ),
            "after": {"needs": ["a"]},
        },
        [{"file": "go"}, {}, {"file": "go"}, {"file": "go"}],
    )
    await site.until(execution, lambda events: bool(of(events, StepFailed, "a[1]")))
    (tmp_path / "go").touch()
    await site.finished(execution)
    state = await site.state(execution)
    assert state.status == "failed"
    assert (state.error or "").startswith("a: item 1: ")
    assert state.steps["a[0]"].status == "success"
    assert "a[2]" not in state.steps
    assert state.steps["after"].status == "skipped"


async def test_a_map_may_collect_errors_in_the_places_of_outputs(site: Installation):
    """It succeeds although some of its items failed."""
    site.worker()
    state = await site.run(
        {
            "a": mapped(
                {"type": "transform", "with": {"value": "${10 / item}"}},
                on_error="collect",
                max_parallel=1,
            )
        },
        [5, 0, 2],
    )
    assert state.status == "completed"
    first, broken, last = state.output["a"]
    assert (first, last) == (2, 5)
    assert list(broken) == ["error"]
    assert state.steps["a[1]"].status == "error"


async def test_a_map_over_nothing_gives_an_empty_list(site: Installation):
    """Nodes that need the map start."""
    site.worker()
    after = {"type": "transform", "needs": ["a"], "with": {"value": "${size(nodes.a.output)}"}}
    state = await site.run({"a": mapped(DOUBLE), "b": after}, [])
    assert state.output == {"b": 0}
    assert state.steps["a"].output == []


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ({"x": 1}, "a: for_each: is {'x': 1}, not a list"),
        (None, "a: for_each: is None, not a list"),
        ("text", "a: for_each: is 'text', not a list"),
        ([0] * 10_001, "a: for_each: gives 10001 items; the limit is 10000"),
        (
            ["x" * 1000] * 262,
            (
                "a: for_each: gives items of 262787 bytes; the limit is 262144: "
                "map over references, such as ids, and let each item fetch its own"
            ),
        ),
    ],
)
async def test_a_value_that_is_not_a_list_fails_the_map(site: Installation, value: Any, error: str):
    """The error names the type of the value."""
    site.worker()
    state = await site.run({"a": mapped(DOUBLE)}, value)
    assert (state.status, state.error) == ("failed", error)


async def test_items_are_tried_again_by_themselves(site: Installation, tmp_path: Path):
    """An item's failure costs the others nothing."""
    site.worker(**NODES)
    work = {
        "type": "test.times",
        "with": {"folder": str(tmp_path), "fails": "${item}", "value": "${index}"},
        "retry": {"max_attempts": 3, "initial": "10ms"},
    }
    state = await site.run({"a": mapped(work)}, [0, 1, 2, 0])
    assert state.output == {"a": [0, 1, 2, 3]}
    events = await site.events(state.execution_id)
    retried = Counter(e.data.node_id for e in events if isinstance(e, StepRetrying))
    assert retried == {"a[1]": 1, "a[2]": 2}
    assert [state.steps[f"a[{i}]"].attempt for i in range(4)] == [1, 2, 3, 1]


async def test_items_may_be_child_runs(site: Installation):
    """Each a run of its own, with the item as its input."""
    site.worker()
    await site.store(
        definition(
            {"x": {"type": "transform", "with": {"value": "${input.n + 1}"}}},
            id="child",
            output="${nodes.x.output}",
        )
    )
    work = {"type": "workflow", "with": {"id": "child", "input": {"n": "${item}"}}}
    state = await site.run({"a": mapped(work, max_parallel=4)}, list(range(10)))
    assert state.output == {"a": list(range(1, 11))}
    events = await site.events(state.execution_id)
    assert most_at_once(events) <= 4


async def test_completed_items_are_not_repeated_when_the_worker_is_killed(
    site: Installation, tmp_path: Path
):
    """Those that ran are, the others begin where they left off; the items stay the same."""
    workers = [site.worker(**NODES), site.worker(**NODES)]
    files = ["now"] * 5 + ["later"] * 5
    (tmp_path / "now").touch()
    execution = await site.begin({"a": mapped(until(tmp_path, "${item}"), max_parallel=3)}, files)
    await site.until(execution, running("a[5]", "a[6]", "a[7]"))
    assert len(workers) == 2
    (await site.driver(execution)).kill()
    await site.until(execution, begun_again)
    (tmp_path / "later").touch()
    events = await site.finished(execution)
    assert fold(events).output == {"a": [1] * 5 + [2] * 3 + [1] * 2}
    assert len(of(events, StepExpanded, "a")) == 1
    noted = Counter((tmp_path / "notes").read_text().splitlines())
    assert {noted[f"began a[{i}] 1"] for i in range(10)} == {1}
    completions = Counter(e.data.node_id for e in events if isinstance(e, StepCompleted))
    assert set(completions.values()) == {1}


async def test_a_map_of_thousands_of_items_is_correct(site: Installation):
    """The scheduler's own tests check that the work for each item does not grow."""
    site.worker()
    work = {"type": "transform", "with": {"value": {"n": "${item}", "text": "x" * 20}}}
    state = await site.run({"a": mapped(work, max_parallel=50)}, list(range(2000)))
    assert [each["n"] for each in state.steps["a"].output] == list(range(2000))


async def test_a_large_output_of_a_map_is_stored_once_and_read_as_a_whole(
    site: Installation, tmp_path: Path
):
    """Expressions, the fold in the API and the next worker read all of it."""
    site.worker(**NODES)
    work = {"type": "test.large", "with": {"size": "${item}"}}
    execution = await site.begin(
        {
            "a": mapped(work),
            "here": {
                "type": "transform",
                "needs": ["a"],
                "with": {"value": "${nodes.a.output.map(text, size(text))}"},
            },
            "hold": {"needs": ["here"], **until(tmp_path, "go")},
            "there": {
                "type": "transform",
                "needs": ["hold"],
                "with": {"value": "${nodes.a.output.map(text, size(text))}"},
            },
        },
        [50_000, 300_000, 50_000],
        output={"here": "${nodes.here.output}", "there": "${nodes.there.output}"},
    )
    await site.until(execution, begun("hold"))
    (await site.driver(execution)).kill()
    site.worker(**NODES)
    (tmp_path / "go").touch()
    events = await site.finished(execution)
    (end,) = of(events, StepCompleted, "a")
    assert (end.output, end.output_omitted, end.output_ref) == (None, True, None)
    state = await site.state(execution)
    lengths = [49_998, 299_998, 49_998]
    assert state.output == {"here": lengths, "there": lengths}
    assert [len(text) for text in state.steps["a"].output] == lengths
    assert sum(len(commit.payload) for commit in await site.commits(execution)) < 150_000
