"""Routes to store, show, list, delete, validate and draw workflow definitions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from tailrace_api.auth.authorization import check_scope
from tailrace_api.auth.principal import principal_of
from tailrace_api.auth.tenancy import actor_of, tenant_of
from tailrace_api.web.json_body import Document, read_document
from tailrace_api.web.json_response import json_response
from tailrace_api.web.operation import Answer, Parameter, operation
from tailrace_api.web.problems import RefusedError
from tailrace_api.web.query import CURSOR, LIMIT, cursor_of, limit_of, query_value
from tailrace_shared.commands.time_limit import within_limit
from tailrace_shared.commands.workflow_schedules import WorkflowSchedules
from tailrace_shared.errors import WorkflowNotFoundError
from tailrace_shared.execution.timestamps import format_timestamp
from tailrace_shared.ids import ID_PATTERN, check_id
from tailrace_shared.process.fair_threads import FairThreads
from tailrace_shared.settings import ApiSettings
from tailrace_shared.stores.node_type_store import NodeTypeStore
from tailrace_shared.stores.workflow_store import StoredWorkflow, WorkflowStore
from tailrace_shared.workflow.definition import (
    MAX_TAGS,
    Concurrency,
    Defaults,
    Definition,
    FailureGroup,
    FinalGroup,
    Group,
    Node,
    ScheduleSpec,
    encode_definition,
)
from tailrace_shared.workflow.graph import graph_of_nodes
from tailrace_shared.workflow.validation import Validated, validate

_MAX_INLINE_NODES: Final = 500
_STORED_HEADERS: Final = ("Location", "ETag")
_VERSION: Final = Parameter(
    "version", Annotated[int, Meta(ge=1, le=2**63 - 1)], "The version; the newest by default."
)
_BEFORE: Final = Parameter(
    "cursor",
    Annotated[int, Meta(ge=1, le=2**63 - 1)],
    "The `cursor` of the previous page; absent for the first page.",
)


class WorkflowBody(msgspec.Struct, omit_defaults=True):
    """A definition to store or validate.

    Attributes:
        nodes: The nodes by id, or a list of ``{id, type, data}`` as in visual editors.
        id: The id of the workflow; optional if the path has it.
        name: The display name.
        input: The JSON Schema of the input.
        output: The template of the output.
        concurrency: The limit for concurrent runs.
        timeout: The time limit of the nodes, from the start of a run.
        on_failure: Nodes that run after a failure.
        finally_: Nodes that run at the end of every run.
        defaults: The retry policy and the time limit of nodes that have none of their own.
        schedules: Schedules that start runs.
        tags: Tags of every run.
        edges: The edges ``{source, target}`` of a visual editor's graph.
    """

    nodes: dict[str, Node] | list[dict[str, Any]]
    id: Annotated[str, Meta(pattern=ID_PATTERN)] | msgspec.UnsetType = msgspec.UNSET
    name: str = ""
    description: str = ""
    input: Any = None
    output: Any = None
    concurrency: Concurrency | None = None
    timeout: str | None = None
    on_failure: FailureGroup | None = None
    finally_: FinalGroup | None = msgspec.field(name="finally", default=None)
    defaults: Defaults | None = None
    schedules: list[ScheduleSpec] = []
    tags: Annotated[list[Annotated[str, Meta(pattern=ID_PATTERN)]], Meta(max_length=MAX_TAGS)] = []
    edges: list[dict[str, Any]] | msgspec.UnsetType = msgspec.UNSET
    viewport: Any = None


class WorkflowSummary(msgspec.Struct):
    """A workflow without its definition."""

    workflow_id: str
    version: int
    name: str
    tags: list[str]


class WorkflowDocument(msgspec.Struct):
    """A workflow with its definition."""

    workflow_id: str
    version: int
    name: str
    definition: Definition


class GraphNode(msgspec.Struct, omit_defaults=True):
    """A node of a drawing.

    Attributes:
        group: The group that it belongs to, if it runs after the main part.
    """

    id: str
    type: str
    name: str
    stage: str | None
    group: Group | msgspec.UnsetType = msgspec.UNSET


class GraphEdge(msgspec.Struct):
    """An edge from a node to a node that depends on it."""

    source: str
    target: str


class GraphDocument(msgspec.Struct):
    """The graph of a workflow, for drawing."""

    workflow_id: str
    version: int
    nodes: list[GraphNode]
    edges: list[GraphEdge]
    layers: list[list[str]]


class Version(msgspec.Struct):
    """A version of a workflow.

    Attributes:
        created_at: When it was stored.
        author: The subject of the token with which it was stored; null if unknown.
    """

    version: int
    name: str
    created_at: str
    author: str | None


class VersionList(msgspec.Struct):
    """A page of the versions of a workflow, newest first.

    Attributes:
        cursor: The cursor of the next page; null on the last page.
    """

    versions: list[Version]
    cursor: str | None


class WorkflowList(msgspec.Struct):
    """A page of workflows, by id.

    Attributes:
        cursor: The cursor of the next page; absent on the last page.
    """

    workflows: list[WorkflowSummary]
    cursor: str | msgspec.UnsetType = msgspec.UNSET


class Valid(msgspec.Struct):
    """The result of a successful validation.

    Attributes:
        nodes: The number of nodes.
    """

    workflow_id: str
    nodes: int
    valid: Literal[True] = True


@dataclass(frozen=True, slots=True)
class WorkflowRoutes:
    """The routes under ``/api/v1/workflows``, except for those of runs."""

    settings: ApiSettings
    workflows: WorkflowStore
    schedules: WorkflowSchedules
    node_types: NodeTypeStore
    threads: FairThreads

    @operation(
        "GET",
        "/api/v1/workflows",
        scope="workflows:read",
        answers={200: Answer(WorkflowList, "A page of the list.")},
        parameters=(LIMIT, CURSOR),
    )
    async def list_page(self, request: Request) -> Response:
        """List workflows by id."""
        page = await self.workflows.page(
            tenant_of(request, self.settings), limit=limit_of(request), cursor=cursor_of(request)
        )
        summaries = [WorkflowSummary(*head) for head in page.workflows]
        return json_response(WorkflowList(summaries, page.cursor or msgspec.UNSET))

    @operation(
        "POST",
        "/api/v1/workflows/validate",
        scope="workflows:read",
        answers={200: Answer(Valid, "The definition is valid.")},
        body=WorkflowBody,
    )
    async def validate(self, request: Request) -> Response:
        """Validate a definition without storing it."""
        definition = await self._definition(request, None)
        return json_response(Valid(definition.id, len(definition.all_nodes)))

    @operation(
        "PUT",
        "/api/v1/workflows/{workflow_id}",
        scope="workflows:write",
        answers={
            200: Answer(
                WorkflowSummary,
                "The definition is the newest version of the workflow.",
                headers=_STORED_HEADERS,
            ),
            201: Answer(WorkflowSummary, "The workflow is created.", headers=_STORED_HEADERS),
        },
        body=WorkflowBody,
    )
    async def put(self, request: Request) -> Response:
        """Store a definition; create a new version if it differs from the newest."""
        tenant, workflow_id = tenant_of(request, self.settings), _workflow_id(request)
        definition = await self._definition(request, workflow_id)
        before = await self._newest(tenant, workflow_id)
        if definition.schedules or (before and before.definition.schedules):
            # A schedule starts runs.
            check_scope(principal_of(request), "executions:write")
        await self._put_schedules(tenant, definition)
        if before and encode_definition(before.definition) == encode_definition(definition):
            return _changed(before, 200)
        version = await self.workflows.put(tenant, definition, actor_of(request))
        if before:
            await self.schedules.remove(tenant, before.definition, definition)
        return _changed(StoredWorkflow(definition, version), 200 if before else 201)

    @operation(
        "GET",
        "/api/v1/workflows/{workflow_id}",
        scope="workflows:read",
        answers={200: Answer(WorkflowDocument, "The definition.", headers=("ETag",))},
        problems=(404,),
        parameters=(_VERSION,),
    )
    async def get(self, request: Request) -> Response:
        """Show a definition."""
        stored = await self._stored(request)
        document = WorkflowDocument(
            stored.definition.id, stored.version, stored.definition.title, stored.definition
        )
        return json_response(document, headers={"etag": _etag(stored)})

    @operation(
        "GET",
        "/api/v1/workflows/{workflow_id}/versions",
        scope="workflows:read",
        answers={200: Answer(VersionList, "A page of the list.")},
        problems=(404,),
        parameters=(LIMIT, _BEFORE),
    )
    async def versions(self, request: Request) -> Response:
        """List the versions of a workflow, newest first."""
        tenant, workflow_id = tenant_of(request, self.settings), _workflow_id(request)
        limit, before = limit_of(request), _version(request, "cursor")
        await self.workflows.get(tenant, workflow_id)
        # One more than the page, which tells whether there is another.
        found = await self.workflows.versions(tenant, workflow_id, limit=limit + 1, before=before)
        page = [
            Version(each.version, each.name, format_timestamp(each.time), each.author or None)
            for each in found[:limit]
        ]
        more = str(page[-1].version) if len(found) > limit else None
        return json_response(VersionList(page, more))

    @operation(
        "DELETE",
        "/api/v1/workflows/{workflow_id}",
        scope="workflows:write",
        answers={204: Answer(None, "The workflow is deleted.")},
        problems=(404,),
    )
    async def delete(self, request: Request) -> Response:
        """Delete a workflow; its runs continue."""
        tenant, workflow_id = tenant_of(request, self.settings), _workflow_id(request)
        before = await self.workflows.get(tenant, workflow_id)
        await self.workflows.delete(tenant, workflow_id)
        await self.schedules.remove(tenant, before.definition, None)
        return Response(status_code=204)

    @operation(
        "GET",
        "/api/v1/workflows/{workflow_id}/graph",
        scope="workflows:read",
        answers={200: Answer(GraphDocument, "The graph.")},
        problems=(404,),
        parameters=(_VERSION,),
    )
    async def graph(self, request: Request) -> Response:
        """Show the nodes, edges and layers of a workflow, for drawing."""
        stored = await self._stored(request)
        if len(stored.definition.all_nodes) <= _MAX_INLINE_NODES:
            return json_response(_graph(stored))
        tenant = tenant_of(request, self.settings)
        return json_response(await self.threads.run(tenant, _graph, stored))

    @within_limit
    async def _put_schedules(self, tenant: str, definition: Definition) -> None:
        if problems := await self.schedules.put(tenant, definition):
            raise RefusedError(422, "the definition is not valid", problems)

    async def _definition(self, request: Request, workflow_id: str | None) -> Definition:
        document = await read_document(request, self.settings.max_body_bytes)
        known = await self.node_types.all()
        # Ten thousand nodes can take seconds; in a thread, so that streams do not wait.
        tenant = tenant_of(request, self.settings)
        checked = await self.threads.run(tenant, _validate, document, known, workflow_id)
        if checked.definition is None and (newest := await self.node_types.read()) != known:
            # A worker has just published a type.
            checked = await self.threads.run(tenant, _validate, document, newest, workflow_id)
        if checked.definition is None:
            raise RefusedError(422, "the definition is not valid", checked.problems)
        return checked.definition

    async def _newest(self, tenant: str, workflow_id: str) -> StoredWorkflow | None:
        try:
            return await self.workflows.get(tenant, workflow_id)
        except WorkflowNotFoundError:
            return None

    async def _stored(self, request: Request) -> StoredWorkflow:
        tenant, workflow_id = tenant_of(request, self.settings), _workflow_id(request)
        return await self.workflows.get(tenant, workflow_id, _version(request))


def _validate(document: Document, node_types: Any, workflow_id: str | None) -> Validated:
    checked = validate(document.value, node_types, workflow_id=workflow_id)
    if not document.duplicates:
        return checked
    return Validated(None, [*document.duplicates, *checked.problems])


def _workflow_id(request: Request) -> str:
    return check_id(request.path_params["workflow_id"], "workflow")


def _version(request: Request, name: str = "version") -> int | None:
    text = query_value(request, name)
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and 0 < int(text[:20]) < 2**63):
        raise RefusedError(400, f"{name}: {text[:40]!r} is not a version; send a positive integer")
    return int(text)


def _summary(stored: StoredWorkflow) -> WorkflowSummary:
    return WorkflowSummary(
        stored.definition.id, stored.version, stored.definition.title, stored.definition.tags
    )


def _changed(stored: StoredWorkflow, status: int) -> Response:
    location = f"/api/v1/workflows/{stored.definition.id}"
    return json_response(_summary(stored), status, {"location": location, "etag": _etag(stored)})


def _etag(stored: StoredWorkflow) -> str:
    return f'"{stored.version}"'


def _graph(stored: StoredWorkflow) -> GraphDocument:
    definition = stored.definition
    parts: dict[Group | msgspec.UnsetType, Mapping[str, Node]] = {msgspec.UNSET: definition.nodes}
    parts.update(definition.groups.items())
    return GraphDocument(
        workflow_id=definition.id,
        version=stored.version,
        nodes=[
            GraphNode(node_id, node.type, node.name or node_id, node.stage, group)
            for group, nodes in parts.items()
            for node_id, node in nodes.items()
        ],
        edges=[
            GraphEdge(need, node_id)
            for nodes in parts.values()
            for node_id, node in nodes.items()
            for need in node.needs
        ],
        layers=[layer for nodes in parts.values() for layer in graph_of_nodes(nodes).layers()],
    )
