"""Requests for every operation of the API, generated from what each operation declares."""

from typing import Any, NamedTuple

import msgspec
from starlette.routing import BaseRoute

from harness.processes.in_process_api import InProcessApi
from tailrace_api.web.operation import Operation

FLOW = {
    "nodes": {
        "make": {"type": "transform", "with": {"value": "${input}"}},
        "ask": {
            "type": "await",
            "needs": ["make"],
            "with": {"reason": "approval", "triggers": ["go"]},
        },
    }
}


class Names(NamedTuple):
    """The names that a generated request uses.

    Attributes:
        execution: an execution id.
        workflow: a workflow id.
        schedule: a schedule id.
        marker: a text that occurs in every body.
        procedure: the procedure of a trigger.
    """

    execution: str
    workflow: str
    schedule: str
    marker: str = ""
    procedure: str = "go"


class Request(NamedTuple):
    """A request for one operation."""

    method: str
    path: str
    query: dict[str, str]
    body: Any
    is_stream: bool

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of ``httpx.request``."""
        whole: dict[str, Any] = {"method": self.method, "url": self.path, "params": self.query}
        return whole if self.body is None else {**whole, "json": self.body}


def routes_of(api: InProcessApi) -> list[BaseRoute]:
    """Return every route of an API."""
    routes: list[BaseRoute] = api.server.config.app.routes  # type: ignore[union-attr]
    return routes


def operations_of(api: InProcessApi) -> list[Operation]:
    """Return every operation of an API."""
    return [route for route in routes_of(api) if isinstance(route, Operation)]


def requests_of(operation: Operation, names: Names) -> list[Request]:
    """Return requests for an operation: with all parameters, without them, and invalid ones."""
    values = _values(names)
    path = operation.path.format_map(
        _Filled({**values, "procedure": names.procedure, "step_id": "make"})
    )
    query = {
        parameter.name: values[parameter.name]
        for parameter in operation.parameters
        if parameter.place == "query" and parameter.name in values
    }
    body = _body(operation, values)
    whole = Request(operation.method, path, query, body, operation.is_stream)
    found = [whole]
    if query:
        found.append(whole._replace(query={}))
    if whole.body is not None:
        broken: list[Any] = [{}, {"strange": 1}, []]
        found += [whole._replace(body=body) for body in broken]
    if isinstance(whole.body, dict):
        # Leave out one field at a time: a response may report only the first problem.
        found += [
            whole._replace(
                body={key: value for key, value in whole.body.items() if key != left_out}
            )
            for left_out in whole.body
        ]
    return found


class _Filled(dict[str, str]):
    def __missing__(self, name: str) -> str:
        return f"some-{name}"


def _values(names: Names) -> dict[str, Any]:
    return {
        **dict.fromkeys(("execution_id", "executionId"), names.execution),
        **dict.fromkeys(("workflow_id", "workflowId", "flow_id"), names.workflow),
        **dict.fromkeys(("node", "node_id", "from_node"), "ask"),
        **dict.fromkeys(("schedule_id", "id"), names.schedule),
        **{name: {"marker": names.marker} for name in ("input", "input_data", "data")},
        "type": names.marker,
        "tags": [names.marker] if names.marker else [],
        "tag": names.marker or "none",
        "q": names.execution[:8],
        "parent": names.execution,
        "pipeline_id": names.workflow,
        "pipelineIds": names.workflow,
        "visible": names.workflow,
        "topics": (
            f"execution:{names.execution},pipeline:{names.workflow},paused,feed,runs,"
            f"runs:{names.workflow},tag:{names.marker or 'none'},stats"
        ),
        "cursor": names.execution,
        "include_logs": "true",
        "reason": names.marker,
        "decision": "approved",
        "cron": "0 0 3 1 1 *",
        "stream": f"/api/v1/sse/executions/{names.execution}/stream",
    }


def _body(operation: Operation, values: dict[str, Any]) -> Any:
    if operation.body is None:
        return None
    if operation.path.endswith(("/workflows/{workflow_id}", "/workflows/validate")):
        return {**FLOW, "id": values["workflow_id"], "name": f"named {values['reason']}"}
    if not isinstance(operation.body, type) or not issubclass(operation.body, msgspec.Struct):
        return values["data"]
    fields = (field.encode_name for field in msgspec.structs.fields(operation.body))
    return {name: values[name] for name in fields if name in values}
