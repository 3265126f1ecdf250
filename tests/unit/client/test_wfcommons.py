"""Conversion of WfCommons traces to definitions."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.errors import TraceError
from tailrace.wfcommons import DEFINITION_BYTES, duration, encode, import_trace, legal_ids

TRACES = Path(__file__).parents[3] / "examples" / "traces"
Graph = dict[str, set[str]]
LEGAL_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=90)


def trace(
    tasks: Mapping[str, Iterable[str]],
    runtimes: Mapping[str, Any] | None = None,
    version: str = "1.5",
) -> bytes:
    """Return a trace as JSON; tasks are given as id → parents."""
    return msgspec.json.encode(
        {
            "name": "a trace",
            "schemaVersion": version,
            "workflow": {
                "specification": {
                    "tasks": [
                        {"id": task, "name": task, "parents": list(parents), "children": []}
                        for task, parents in tasks.items()
                    ]
                },
                "execution": {
                    "tasks": [
                        {"id": task, "runtimeInSeconds": seconds}
                        for task, seconds in (runtimes or {}).items()
                    ]
                },
            },
        }
    )


def with_tasks(*tasks: dict[str, Any]) -> bytes:
    """Return a trace of tasks written out in full."""
    document = msgspec.json.decode(trace({}))
    document["workflow"]["specification"]["tasks"] = list(tasks)
    return msgspec.json.encode(document)


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Draw an acyclic graph with hard names: id → parents, parents before children."""
    names = draw(st.lists(NAMES, min_size=1, max_size=12, unique=True))
    return {
        name: draw(st.sets(st.sampled_from(names[:index]))) if index else set()
        for index, name in enumerate(names)
    }


@pytest.mark.parametrize(
    ("file", "tasks", "edges"),
    [
        ("1000genome-chameleon-2ch-100k-001", 52, 76),
        ("epigenomics-chameleon-hep-1seq-100k-001", 41, 48),
        ("hic-dirt02-001", 38, 47),
    ],
)
def test_the_traces_that_ship_keep_their_tasks_and_edges(file: str, tasks: int, edges: int) -> None:
    """Every task is a node and every edge, written at either end, is one need."""
    content = (TRACES / f"{file}.json").read_bytes()

    definition = import_trace(content, file)

    written = msgspec.json.decode(content)["workflow"]["specification"]["tasks"]
    pairs = {(parent, task["id"]) for task in written for parent in task["parents"]}
    pairs |= {(task["id"], child) for task in written for child in task["children"]}
    names = {node: body["name"] for node, body in definition["nodes"].items()}
    needs = {
        (names[need], body["name"])
        for body in definition["nodes"].values()
        for need in body.get("needs", [])
    }
    assert definition["id"] == file
    assert (len(definition["nodes"]), len(needs)) == (tasks, edges)
    assert needs == pairs


@given(graphs())
def test_edges_survive_any_task_names(graph: Graph) -> None:
    """Node ids are legal and differ, names are whole, and the graph is the trace's."""
    nodes = import_trace(trace(graph), "stem")["nodes"]

    names = {node: body["name"] for node, body in nodes.items()}
    assert all(LEGAL_ID.fullmatch(node) for node in nodes)
    assert list(names.values()) == list(graph)
    assert {
        body["name"]: {names[need] for need in body.get("needs", [])} for body in nodes.values()
    } == graph


@given(st.lists(NAMES, unique=True, max_size=30))
def test_ids_are_legal_unique_and_depend_on_the_name_alone(names: list[str]) -> None:
    """A legal name is its own id; the order of the tasks changes nothing."""
    made = dict(zip(names, legal_ids(names), strict=True))

    assert all(LEGAL_ID.fullmatch(value) for value in made.values())
    assert len(set(made.values())) == len(names)
    assert all(made[name] == name for name in names if LEGAL_ID.fullmatch(name))
    assert made == dict(zip(reversed(names), legal_ids(reversed(names)), strict=True))


@pytest.mark.parametrize(
    ("stem", "expected"),
    [
        ("hic-dirt02-001", "hic-dirt02-001"),
        ("my trace.v2", "my-trace-v2"),
        ("...", "trace"),
        ("x" * 99, "x" * 64),
    ],
)
def test_the_workflow_is_called_like_its_file(stem: str, expected: str) -> None:
    """The id is predictable from the file name."""
    assert import_trace(trace({"a": ()}), stem)["id"] == expected


def test_names_that_differ_only_in_illegal_characters_get_different_ids() -> None:
    """Replacing characters alone would make two nodes one."""
    first, second, taken = legal_ids(["a.b", "a:b", "a-b"])

    assert len({first, second, taken}) == 3
    assert taken == "a-b"
    assert first.startswith("a-b-")


def test_an_edge_stated_by_the_child_list_alone_counts() -> None:
    """Traces state an edge at the parent, at the child, or at both."""
    content = with_tasks(
        {"id": "a", "children": ["b", "b"], "parents": []},
        {"id": "b", "children": [], "parents": ["a"]},
        {"id": "c", "children": [], "parents": []},
        {"id": "d", "children": ["c"]},
    )

    nodes = import_trace(content, "stem")["nodes"]

    assert nodes["b"]["needs"] == ["a"]
    assert nodes["c"]["needs"] == ["d"]
    assert "needs" not in nodes["a"]


def test_durations_are_the_recorded_ones_scaled() -> None:
    """A task without a runtime takes no time, nor does one whose clock stepped back."""
    runtimes = {"a": 53.6, "b": 0.5, "c": None, "d": -1.0, "e": 90_000}
    graph: Graph = {task: set() for task in [*runtimes, "f"]}

    definition = import_trace(trace(graph, runtimes), "stem", 0.1)

    slept = {node: body["with"]["duration"] for node, body in definition["nodes"].items()}
    assert slept == {"a": "5.36s", "b": "50ms", "c": "0s", "d": "0s", "e": "9000s", "f": "0s"}


@given(st.floats(min_value=0, max_value=1e9, allow_subnormal=False))
def test_durations_follow_the_grammar(seconds: float) -> None:
    """A number without exponent and a unit, right to a thousandth of the unit."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(ms|s)", duration(seconds))

    assert match
    value = float(match[1]) / (1000 if match[2] == "ms" else 1)
    assert value == pytest.approx(seconds, abs=0.0006 if match[2] == "s" else 0.0000006)


def test_thousands_of_tasks_and_a_wide_join_stay_under_the_limit() -> None:
    """Ten thousand nodes with two joins of over a thousand are one definition."""
    graph = {f"task_ID{number:07}": [f"task_ID{number // 9:07}"] for number in range(1, 10_000)}
    graph = {"task_ID0000000": [], **graph}
    for join in (5_000, 9_999):
        graph[f"task_ID{join:07}"] = [f"task_ID{number:07}" for number in range(1_100)]

    written = encode(import_trace(trace(graph), "large"))

    nodes = msgspec.json.decode(written)["nodes"]
    assert len(nodes) == 10_000
    assert len(nodes["task_ID0009999"]["needs"]) == 1_100
    assert len(written) < DEFINITION_BYTES


def test_a_definition_is_written_with_a_line_for_each_node() -> None:
    """Compact, and still to be read and compared."""
    definition = import_trace(trace({"a": [], "b": ["a"]}), "stem")

    written = encode(definition)

    assert msgspec.json.decode(written) == definition
    assert len(written.splitlines()) == 4


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"nodes: []", "not JSON"),
        (b"[]", "no 'workflow'"),
        (b'{"workflow": 5}', "no 'workflow'"),
        (trace({"a": []}, version="1.3"), "WfFormat 1.3 is not supported"),
        (b'{"workflow": {"tasks": []}, "schemaVersion": "1.4"}', "without 'workflow.specification"),
        (trace({}), "no tasks"),
        (with_tasks({"id": 5}), "Expected `str"),
        (with_tasks({"parents": []}), "neither 'id' nor 'name'"),
        (trace({"a": ["ghost"]}), "task 'a' has a parent that does not exist: 'ghost'"),
        (with_tasks({"id": "a", "children": ["ghost"]}), "a child that does not exist: 'ghost'"),
        (with_tasks({"id": "a"}, {"id": "a"}), "two tasks have the id 'a'"),
        (trace({"a": ["b"], "b": ["a"]}), "cycle"),
        (trace({"a": ["a"]}), "cycle: 'a' → 'a'"),
        (trace({"a": []}, {"a": "long"}), "Expected `float"),
    ],
)
def test_an_invalid_trace_is_refused_in_one_line(content: bytes, sentence: str) -> None:
    """The message names the place, so that the file can be put right."""
    with pytest.raises(TraceError) as caught:
        import_trace(content, "stem")

    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
