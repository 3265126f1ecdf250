"""Executions that are run again: from their start, or from a node, keeping what came before."""

from collections import Counter
from pathlib import Path
from typing import Any, Literal

import pytest

from harness.generators.workflows import definition
from harness.models.log_conditions import begun, of, types_of
from harness.processes.installation import TENANT, Installation
from tailrace_shared.commands.run_input import InvalidInputError
from tailrace_shared.errors import IdempotencyConflictError, IllegalCommandError
from tailrace_shared.execution.events import StepCompleted, StepStarted
from tailrace_shared.execution.state import ExecutionState
from tailrace_shared.nats.topology import OUTPUTS

NODES = {"nodes": "feature_functions"}
MIB = 1024 * 1024


def times(folder: Path, *needs: str, fails: Any = 0, value: Any = 1) -> dict[str, Any]:
    """Return a node whose attempts are noted."""
    parameters = {"folder": str(folder), "fails": fails, "value": value}
    return {"type": "test.times", "needs": list(needs), "with": parameters}


def begun_in(folder: Path) -> Counter[str]:
    """Return how often each step has begun, in all runs."""
    return Counter(line.split()[1] for line in (folder / "notes").read_text().splitlines())


async def rerun(site: Installation, execution: str, from_node: str | None = None) -> ExecutionState:
    """Run an execution again to its end; return the state of the new one."""
    again = await site.starter.rerun(TENANT, execution, from_node, None)
    await site.finished(again.execution_id)
    return await site.state(again.execution_id)


async def test_a_rerun_from_a_node_keeps_what_succeeded_before_it(
    site: Installation, tmp_path: Path
):
    """The node and all that comes after it run again, and so does what had not succeeded."""
    site.worker(**NODES)
    nodes = {
        "a": times(tmp_path, value="${input}"),
        "b": times(tmp_path, "a", value="${nodes.a.output + 1}") | {"stage": "second"},
        "c": times(tmp_path, "b", fails="${input}"),
        "other": times(tmp_path),
        "after_c": times(tmp_path, "c"),
    }
    first = await site.run(nodes, 5)
    assert first.status == "failed"
    again = await rerun(site, first.execution_id, "c")
    assert (again.rerun_of, again.from_node) == (first.execution_id, "c")
    assert (again.version, again.input) == (first.version, 5)
    assert begun_in(tmp_path) == {"a": 1, "b": 1, "other": 1, "c": 2}
    kept = {node for node, step in again.steps.items() if step.kept_from == first.execution_id}
    assert kept == {"a", "b", "other"}
    assert again.steps["b"].output == first.steps["b"].output == 6
    assert again.steps["b"].stage == "second"
    assert types_of(await site.events(again.execution_id))[:5] == [
        "execution:queued",
        "step:completed a",
        "step:completed other",
        "step:completed b",
        "execution:started",
    ]


async def test_a_rerun_from_the_start_keeps_nothing(site: Installation, tmp_path: Path):
    """Any completion of the first run."""
    site.worker(**NODES)
    first = await site.run({"a": times(tmp_path), "b": times(tmp_path, "a")})
    again = await rerun(site, first.execution_id)
    assert (again.status, again.rerun_of, again.from_node) == (
        "completed",
        first.execution_id,
        None,
    )
    assert begun_in(tmp_path) == {"a": 2, "b": 2}


async def test_a_rerun_runs_the_version_that_the_first_one_ran(site: Installation):
    """A newer version exists by then."""
    site.worker()
    first = await site.run({"a": {"type": "transform", "with": {"value": "old"}}})
    await site.store(definition({"a": {"type": "transform", "with": {"value": "new"}}}))
    again = await rerun(site, first.execution_id)
    assert again.output == {"a": "old"}


async def test_a_rerun_keeps_large_outputs_and_maps(site: Installation):
    """Stored anew: they do not expire with the first run's."""
    site.worker(**NODES)
    work = {"type": "test.large", "with": {"size": "${item}"}}
    nodes = {
        "large": {"type": "test.large", "with": {"size": MIB}},
        "map": {"type": "map", "with": {"for_each": "[300000, 10]", "do": work}},
        "small": {"type": "map", "with": {"for_each": "[10, 20]", "do": work}},
        "sizes": {
            "type": "transform",
            "needs": ["large", "map", "small"],
            "with": {
                "value": [
                    "${size(nodes.large.output)}",
                    "${nodes.map.output.map(text, size(text))}",
                    "${nodes.small.output.map(text, size(text))}",
                ]
            },
        },
    }
    first = await site.run(nodes)
    sizes = [MIB - 2, [299_998, 8], [8, 18]]
    assert first.output == {"sizes": sizes}
    again = await rerun(site, first.execution_id, "sizes")
    assert again.output == {"sizes": sizes}
    refs = {again.steps[node].output_ref for node in ("large", "map")}
    assert None not in refs
    assert refs.isdisjoint({first.steps["large"].output_ref, None})
    assert [len(text) for text in again.steps["map"].output] == [299_998, 8]
    thrice = await rerun(site, again.execution_id, "sizes")
    assert thrice.output == {"sizes": sizes}
    assert thrice.steps["large"].kept_from == first.execution_id


async def test_a_map_that_is_larger_than_any_output_may_be_ends_its_rerun_with_the_reason(
    site: Installation,
):
    """Its items are kept one by one; a rerun would have to keep them as one."""
    site.worker(**NODES, max_output_bytes=str(MIB))
    work = {"type": "test.large", "with": {"size": "${item}"}}
    first = await site.run(
        {
            "a": {"type": "map", "with": {"for_each": "input", "do": work}},
            "b": {"needs": ["a"]},
        },
        [MIB, MIB],
    )
    assert first.status == "completed"
    again = await rerun(site, first.execution_id, "b")
    assert again.status == "failed"
    assert str(MIB) in (again.error or "")


async def test_a_rerun_whose_kept_outputs_have_expired_ends_with_the_reason(site: Installation):
    """The input of a step has expired."""
    site.worker(**NODES)
    first = await site.run(
        {"a": {"type": "test.large", "with": {"size": MIB}}, "b": {"needs": ["a"]}}
    )
    await site.jetstream.api(f"STREAM.PURGE.{site.subjects.stream(OUTPUTS)}", {})
    again = await rerun(site, first.execution_id, "b")
    assert again.status == "failed"
    assert "has expired" in (again.error or "")


async def test_a_rerun_keeps_decisions_before_its_node_and_waits_for_later_ones(site: Installation):
    """An unchanged approval is not requested twice."""
    site.worker()
    approval = {"type": "await"}
    execution = await site.begin(
        {"a": approval, "b": {"needs": ["a"]}, "c": {"needs": ["b"], **approval}}
    )
    for node in ("a", "c"):
        await site.waits(execution, [node])
        await site.commander.resume(TENANT, execution)
    await site.finished(execution)
    again = await site.starter.rerun(TENANT, execution, "b", None)
    await site.waits(again.execution_id, ["c"])
    await site.commander.resume(TENANT, again.execution_id)
    events = await site.finished(again.execution_id)
    assert of(events, StepStarted, "a") == []


async def test_only_an_execution_that_has_ended_is_run_again(site: Installation, tmp_path: Path):
    """Completed, failed or cancelled."""
    site.worker(**NODES)
    until = {"type": "test.until", "with": {"folder": str(tmp_path)}}
    execution = await site.begin({"a": until})
    await site.until(execution, begun("a"))
    with pytest.raises(IllegalCommandError, match="is running; only one that has ended"):
        await site.starter.rerun(TENANT, execution, None, None)
    await site.commander.cancel(TENANT, execution)
    await site.finished(execution)
    (tmp_path / "go").touch()
    again = await rerun(site, execution, "a")
    assert again.status == "completed"


async def test_a_rerun_from_a_node_that_does_not_exist_is_refused(site: Installation):
    """Before there is a new execution."""
    site.worker()
    first = await site.run({"a": {}})
    with pytest.raises(InvalidInputError) as refused:
        await site.starter.rerun(TENANT, first.execution_id, "nowhere", None)
    assert "no node 'nowhere'" in refused.value.problems[0].detail


async def test_the_same_key_makes_one_rerun(site: Installation):
    """A request that is sent twice starts nothing twice."""
    site.worker()
    first = await site.run({"a": {}})
    keyed = [await site.starter.rerun(TENANT, first.execution_id, None, "key") for _ in range(2)]
    assert keyed[0].execution_id == keyed[1].execution_id
    await site.finished(keyed[0].execution_id)


async def test_a_rerun_continues_when_its_worker_is_killed(site: Installation, tmp_path: Path):
    """The next worker records the completions that are still missing."""
    first = site.worker(**NODES)
    nodes = {f"n{i}": times(tmp_path, value=i) for i in range(20)}
    nodes["last"] = times(tmp_path, *nodes)
    original = await site.run(nodes)
    whole = await rerun(site, original.execution_id, "last")
    kept = [
        event
        for event in await site.events(whole.execution_id)
        if isinstance(event, StepCompleted) and event.data.kept_from
    ]
    first.kill()
    again = await site.starter.rerun(TENANT, original.execution_id, "last", None)
    history = await site.log.load_newest(TENANT, again.execution_id)
    await site.append(again.execution_id, kept[:7], history.last_sequence)
    site.worker(**NODES)
    events = await site.finished(again.execution_id)
    completions = Counter(
        event.data.node_id for event in events if isinstance(event, StepCompleted)
    )
    assert completions == dict.fromkeys(nodes, 1)
    assert begun_in(tmp_path) == {**dict.fromkeys(nodes, 1), "last": 3}


async def test_a_fixed_definition_takes_up_a_failed_run(site: Installation, tmp_path: Path):
    """Unchanged nodes that have succeeded are kept, and so are the items of a map."""
    site.worker(**NODES)
    work = {"type": "test.times", "with": {"folder": str(tmp_path), "fails": "${item}"}}
    nodes = {
        "a": times(tmp_path),
        "m": {
            "type": "map",
            "needs": ["a"],
            "with": {"for_each": "input.fails", "on_error": "collect", "do": work},
        },
        "bad": times(tmp_path, "a", fails=1),
        "last": times(tmp_path, "m", "bad"),
    }
    first = await site.run(nodes, {"fails": [0, 1, 0]})
    assert first.status == "failed"
    work["retry"] = {"max_attempts": 2, "initial": "0s"}
    fixed = await site.store(definition({**nodes, "bad": times(tmp_path, "a", value=5)}))
    started = await site.starter.rerun(
        TENANT, first.execution_id, None, None, failed=True, version="latest"
    )
    await site.finished(started.execution_id)
    again = await site.state(started.execution_id)
    assert (again.status, again.version, again.reruns_failed) == ("completed", fixed.version, True)
    kept = {node for node, step in again.steps.items() if step.kept_from == first.execution_id}
    assert kept == {"a", "m[0]", "m[2]"}
    # The failed item has run once in the first run, and twice in the second.
    assert begun_in(tmp_path) == {"a": 1, "m[0]": 1, "m[1]": 3, "m[2]": 1, "bad": 2, "last": 1}


async def test_a_rerun_may_have_another_input(site: Installation, tmp_path: Path):
    """Nodes that read what has changed run again."""
    site.worker(**NODES)
    nodes = {
        "a": times(tmp_path, value="${input.a}"),
        "b": times(tmp_path, value="${input.b}", fails="${input.b}"),
    }
    first = await site.run(nodes, {"a": 1, "b": 2})
    started = await site.starter.rerun(
        TENANT, first.execution_id, None, "key", failed=True, new_input={"a": 1, "b": 0}
    )
    await site.finished(started.execution_id)
    again = await site.state(started.execution_id)
    assert (again.input, again.output) == ({"a": 1, "b": 0}, {"a": 1, "b": 0})
    assert begun_in(tmp_path) == {"a": 1, "b": 2}
    with pytest.raises(IdempotencyConflictError):
        await site.starter.rerun(TENANT, first.execution_id, None, "key", failed=True)


async def test_a_repeated_rerun_with_the_latest_version_stays_one_run(site: Installation):
    """A newer version is stored between the two requests."""
    site.worker()
    first = await site.run({"a": {}})

    async def request() -> ExecutionState:
        return await site.starter.rerun(TENANT, first.execution_id, None, "key", version="latest")

    once = await request()
    await site.store(definition({"a": {}, "b": {}}))
    twice = await request()
    assert (once.execution_id, once.version) == (twice.execution_id, twice.version)
    await site.finished(once.execution_id)


async def test_a_version_that_cannot_run_it_is_refused(site: Installation):
    """It does not exist, or does not accept the input."""
    site.worker()
    first = await site.run({"a": {}}, {})
    await site.store(definition({"a": {}}, input={"type": "object", "required": ["x"]}))
    versions: list[tuple[int | Literal["latest"], str]] = [
        (99_999, "/version"),
        ("latest", "/input"),
    ]
    for version, pointer in versions:
        with pytest.raises(InvalidInputError) as refused:
            await site.starter.rerun(TENANT, first.execution_id, None, None, version=version)
        assert refused.value.problems[0].pointer.startswith(pointer)
