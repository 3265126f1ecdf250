"""Convert WfCommons traces (WfFormat 1.5) to workflow definitions.

A trace is a recorded run of a scientific workflow. Each task becomes a ``simulate`` node that
sleeps for the recorded time, scaled. An edge may be given by its parent or by its child and counts
once. The conversion is linear in the size of the trace: real traces have tens of thousands of tasks
and joins of more than a thousand.

https://github.com/wfcommons/WfFormat
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any, Final

import msgspec

from tailrace.errors import TraceError

VERSIONS: Final = ("1.5", "1.4")
DEFINITION_BYTES: Final = 1024 * 1024
"""The largest definition that the API accepts."""

_ID_LENGTH: Final = 64
_LEGAL_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_ILLEGAL = re.compile(r"[^A-Za-z0-9_-]+")


class _Task(msgspec.Struct):
    id: str | None = None
    name: str | None = None
    parents: list[str] = []
    children: list[str] = []


class _Measured(msgspec.Struct, rename={"runtime": "runtimeInSeconds"}):
    id: str | None = None
    name: str | None = None
    runtime: float | None = None


class _Specification(msgspec.Struct):
    tasks: list[_Task]


class _Execution(msgspec.Struct):
    tasks: list[_Measured] = []


class _Workflow(msgspec.Struct):
    specification: _Specification
    execution: _Execution = msgspec.field(default_factory=_Execution)


class _Trace(msgspec.Struct):
    workflow: _Workflow
    name: str = ""


def import_trace(content: bytes, stem: str, scale: float = 0.0) -> dict[str, Any]:
    """Convert a trace to a definition.

    Args:
        content: the trace, as JSON.
        stem: the file name without its ending, used for the workflow's id.
        scale: seconds of sleep per recorded second.

    Raises:
        TraceError: the content is not a trace, or its tasks do not form an acyclic graph.
    """
    trace = _decode(content)
    tasks = _tasks_by_id(trace.workflow.specification.tasks)
    parents = _parents(tasks)
    _check_acyclic(parents)
    nodes = dict(zip(tasks, legal_ids(tasks), strict=True))
    seconds = {_id_of(task): task.runtime or 0.0 for task in trace.workflow.execution.tasks}
    definition = {
        "id": workflow_id(stem),
        "name": trace.name or stem,
        "nodes": {
            node: _node(task, [nodes[parent] for parent in parents[task]], seconds, scale)
            for task, node in nodes.items()
        },
    }
    return _within_limit(definition)


def workflow_id(stem: str) -> str:
    """Return a legal workflow id made from a file name."""
    return _ILLEGAL.sub("-", stem).strip("-")[:_ID_LENGTH] or "trace"


def encode(definition: Mapping[str, Any]) -> str:
    """Return a definition as compact JSON with one line per node."""
    head = {key: value for key, value in definition.items() if key != "nodes"}
    opening = msgspec.json.encode(head).decode().removesuffix("}")
    nodes = ",\n".join(
        f"{msgspec.json.encode(node).decode()}:{msgspec.json.encode(body).decode()}"
        for node, body in definition["nodes"].items()
    )
    return f'{opening},"nodes":{{\n{nodes}\n}}}}\n'


def legal_ids(names: Iterable[str]) -> Iterator[str]:
    """Yield an id for each distinct name: the name itself if legal, else an id made from it.

    A made id contains a hash of the whole name, so it does not depend on the order of the tasks. A
    longer hash is used in the rare case that the id is taken.
    """
    names = list(names)
    taken = {name for name in names if _LEGAL_ID.fullmatch(name)}
    for name in names:
        if _LEGAL_ID.fullmatch(name):
            yield name
        else:
            made = next(made for made in _made_ids(name) if made not in taken)
            taken.add(made)
            yield made


def duration(seconds: float) -> str:
    if seconds >= 1 or seconds == 0:
        return f"{_number(seconds)}s"
    return f"{_number(seconds * 1000)}ms"


def _decode(content: bytes) -> _Trace:
    try:
        document = msgspec.json.decode(content)
    except (ValueError, RecursionError) as error:
        raise TraceError(f"not JSON: {error}") from None
    workflow = document.get("workflow") if isinstance(document, dict) else None
    if not isinstance(workflow, dict):
        raise TraceError("not a WfCommons trace: it has no 'workflow'")
    version = str(document.get("schemaVersion"))
    if version not in VERSIONS:
        raise TraceError(f"WfFormat {version} is not supported; convert the trace to 1.5")
    if "specification" not in workflow:
        raise TraceError(
            f"WfFormat {version} without 'workflow.specification' is not supported; "
            "convert the trace to 1.5"
        )
    try:
        return msgspec.convert(document, _Trace)
    except msgspec.ValidationError as error:
        raise TraceError(f"not WfFormat {version}: {error}") from None


def _id_of(task: _Task | _Measured) -> str:
    identity = task.id if task.id is not None else task.name
    if identity is None:
        raise TraceError("a task has neither 'id' nor 'name'")
    return identity


def _tasks_by_id(tasks: Sequence[_Task]) -> dict[str, _Task]:
    if not tasks:
        raise TraceError("the trace has no tasks")
    by_id: dict[str, _Task] = {}
    for task in tasks:
        if by_id.setdefault(_id_of(task), task) is not task:
            raise TraceError(f"two tasks have the id {_id_of(task)!r}")
    return by_id


def _parents(tasks: Mapping[str, _Task]) -> dict[str, list[str]]:
    """Return each task's parents, from both ends of every edge, in the order of the trace."""
    parents: dict[str, dict[str, None]] = {task: {} for task in tasks}
    for task, body in tasks.items():
        for parent in body.parents:
            if parent not in tasks:
                raise TraceError(f"task {task!r} has a parent that does not exist: {parent!r}")
            parents[task][parent] = None
    for task, body in tasks.items():
        for child in body.children:
            if child not in tasks:
                raise TraceError(f"task {task!r} has a child that does not exist: {child!r}")
            parents[child][task] = None
    return {task: list(found) for task, found in parents.items()}


def _check_acyclic(parents: Mapping[str, list[str]]) -> None:
    try:
        TopologicalSorter(parents).prepare()
    except CycleError as error:
        path = " → ".join(map(repr, error.args[1]))
        raise TraceError(f"the tasks form a cycle: {path}") from None


def _node(
    task: str, needs: list[str], seconds: Mapping[str, float], scale: float
) -> dict[str, Any]:
    # Recorded clocks sometimes step back; a negative duration becomes zero.
    slept = max(seconds.get(task, 0.0), 0.0) * scale
    body = {"type": "simulate", "name": task, "needs": needs, "with": {"duration": duration(slept)}}
    return body if needs else {key: value for key, value in body.items() if key != "needs"}


def _within_limit(definition: dict[str, Any]) -> dict[str, Any]:
    """Omit default values from a definition that would be too large."""
    if len(msgspec.json.encode(definition)) > DEFINITION_BYTES:
        for node, body in definition["nodes"].items():
            if body["name"] == node:
                del body["name"]
            if body["with"] == {"duration": "0s"}:
                del body["with"]
    return definition


def _made_ids(name: str) -> Iterator[str]:
    digest = hashlib.sha256(name.encode()).hexdigest()
    readable = _ILLEGAL.sub("-", name).strip("-")
    for length in range(8, len(digest) + 1, 8):
        head = readable[: _ID_LENGTH - length - 1]
        yield f"{head}-{digest[:length]}" if head else digest[:length]


def _number(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".")
