"""Workflow traces of any size: parallel copies of a recorded trace, and one join."""

from pathlib import Path
from typing import Any, Final

import msgspec

from harness.generators.workflows import definition
from tailrace.wfcommons import import_trace
from tailrace_shared.workflow.definition import Definition

RECORDED: Final = (
    Path(__file__).parents[3] / "examples" / "traces" / "1000genome-chameleon-2ch-100k-001.json"
)


def grown_trace(tasks: int) -> bytes:
    """Return a WfFormat trace of at least ``tasks`` tasks, whose last task joins all leaves.

    The recorded workflow of 52 tasks is copied as often as necessary: the depth stays the same, the
    width and the join grow.
    """
    recorded = msgspec.json.decode(RECORDED.read_bytes())
    shapes = recorded["workflow"]["specification"]["tasks"]
    numbers = {task["id"]: number for number, task in enumerate(shapes)}
    grown: list[dict[str, Any]] = []
    leaves: list[str] = []
    while len(grown) < tasks - 1:
        copy = len(grown) // len(shapes)
        names = {task: f"c{copy}-{number}" for task, number in numbers.items()}
        for task in shapes:
            parents = [names[parent] for parent in task.get("parents", [])]
            grown.append({"id": names[task["id"]], "parents": parents})
            if not task.get("children"):
                leaves.append(names[task["id"]])
    grown.append({"id": "join", "parents": leaves})
    trace = {"name": "grown", "workflow": {"specification": {"tasks": grown}}}
    return msgspec.json.encode({**trace, "schemaVersion": "1.5"})


def grown_workflow(tasks: int, duration: str = "0s") -> Definition:
    """Return a grown trace as a definition, converted by the public importer."""
    nodes = import_trace(grown_trace(tasks), "grown")["nodes"]
    timed = {name: {**node, "with": {"duration": duration}} for name, node in nodes.items()}
    return definition(timed, id=f"grown-{tasks}")
