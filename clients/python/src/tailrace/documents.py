"""The documents of the API, as dictionaries whose fields are attributes as well.

A document has every field that the API sent, also those that this version of the client does not
know. A field that the API left out is None.
"""

import inspect
from collections.abc import Mapping
from typing import Any, ClassVar, Self, TypeVar

import msgspec

from tailrace.errors import RunFailedError

T = TypeVar("T")


class Document(dict[str, Any]):
    """A JSON object of the API."""

    nested: ClassVar[Mapping[str, type["Document"]]] = {}
    """The types of the fields that are documents, or lists of them."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        super().__init__(fields)
        for name, kind in self.nested.items():
            value = self.get(name)
            if isinstance(value, list):
                self[name] = [kind(each) for each in value]
            elif isinstance(value, dict):
                self[name] = kind(value)

    def __getattr__(self, name: str) -> Any:
        """Return a field; None if the API left it out."""
        if name in self:
            return self[name]
        if any(name in inspect.get_annotations(kind) for kind in type(self).__mro__):
            return None
        raise AttributeError(f"{type(self).__name__} has no field {name!r}")


class Step(Document):
    """A step of a run: a node, or an item of a map."""

    node_id: str
    node_type: str
    name: str
    status: str
    attempt: int
    started_at: str | None
    completed_at: str | None
    duration_ms: int | None
    output: Any
    error: str | None
    error_detail: str | None
    kept_from: str | None
    waiting_for: dict[str, Any] | None


class RunDocument(Document):
    """A run, with its steps."""

    nested: ClassVar[Mapping[str, type[Document]]] = {"steps": Step}

    execution_id: str
    workflow_id: str
    version: int
    status: str
    input: Any
    output: Any
    error: str | None
    created_at: str | None
    started_at: str | None
    finished_at: str | None
    duration_ms: int | None
    progress: float
    eta_ms: int | None
    rerun_of: str | None
    schedule: str | None
    scheduled_at: str | None
    tags: list[str]
    steps: list[Step]
    logs: list[dict[str, Any]] | None

    def step(self, step_id: str) -> Step:
        """Return a step.

        Raises:
            KeyError: the run has no such step.
        """
        for step in self.steps:
            if step.node_id == step_id:
                return step
        raise KeyError(step_id)

    def raise_for_status(self) -> Self:
        """Return the run, if it has completed.

        Raises:
            RunFailedError: it has failed or was cancelled.
        """
        if self.status in {"failed", "cancelled"}:
            raise RunFailedError(self.execution_id, self.status, self.error)
        return self

    def output_as(self, kind: type[T]) -> T:
        """Return the output as a type that msgspec knows, such as a dataclass.

        Raises:
            RunFailedError: the run has failed or was cancelled.
            msgspec.ValidationError: the output is not of this type.
        """
        return msgspec.convert(self.raise_for_status().output, kind)


class StartedRun(Document):
    """A run that was started, or to which a command was sent."""

    execution_id: str
    status: str
    stream_url: str
    command_id: str | None
    event_id: str | None
    rerun_of: str | None
    from_node: str | None
    version: int | None


class RunSummary(Document):
    """A run in a list."""

    execution_id: str
    workflow_id: str
    version: int
    status: str
    created_at: str
    started_at: str | None
    finished_at: str | None
    duration_ms: int | None
    tags: list[str]
    error: str | None
    parent: str | None
    rerun_of: str | None


class RunPage(Document):
    """A page of runs, newest first; ``cursor`` is that of the next page."""

    nested: ClassVar[Mapping[str, type[Document]]] = {"runs": RunSummary}

    runs: list[RunSummary]
    cursor: str | None


class Workflow(Document):
    """A version of a workflow; only single ones have a ``definition``."""

    workflow_id: str
    version: int
    name: str
    tags: list[str]
    definition: dict[str, Any]


class WorkflowPage(Document):
    """A page of workflows by id."""

    nested: ClassVar[Mapping[str, type[Document]]] = {"workflows": Workflow}

    workflows: list[Workflow]
    cursor: str | None


class WorkflowVersion(Document):
    """A version of a workflow that is kept."""

    version: int
    name: str
    created_at: str
    author: str | None


class WorkflowVersions(Document):
    """A page of versions, newest first."""

    nested: ClassVar[Mapping[str, type[Document]]] = {"versions": WorkflowVersion}

    versions: list[WorkflowVersion]
    cursor: str | None


class WaitingStep(Document):
    """A step that waits for a signal."""

    execution_id: str
    workflow_id: str
    node_id: str
    since: str
    reason: str
    triggers: list[str] | None


class WaitingPage(Document):
    """A page of waiting steps."""

    nested: ClassVar[Mapping[str, type[Document]]] = {"waiting": WaitingStep}

    waiting: list[WaitingStep]
    cursor: str | None


class BulkRow(Document):
    """A run that a bulk command has matched."""

    execution_id: str
    workflow_id: str
    status: str
    error: str | None
    rerun: str | None


class BulkAnswer(Document):
    """The result of a bulk command."""

    nested: ClassVar[Mapping[str, type[Document]]] = {"executions": BulkRow}

    dry_run: bool
    executions: list[BulkRow]
    more: bool
    cursor: str | None


class Schedule(Document):
    """A schedule, with its last and its next firing."""

    id: str
    workflow_id: str
    cron: str
    time_zone: str | None
    input: Any
    created_at: str
    next_at: str | None
    paused: bool
    last_at: str | None
    last_execution_id: str | None
    overlap: str | None


class SchedulePage(Document):
    """A page of schedules by id."""

    nested: ClassVar[Mapping[str, type[Document]]] = {"schedules": Schedule}

    schedules: list[Schedule]
    cursor: str | None


class Firing(Document):
    """A firing of a backfill."""

    scheduled_at: str
    execution_id: str | None
    error: str | None


class Backfill(Document):
    """The firings of a backfill, in order."""

    nested: ClassVar[Mapping[str, type[Document]]] = {"firings": Firing}

    dry_run: bool
    firings: list[Firing]


class Me(Document):
    """The caller, and the limits of the server."""

    subject: str
    organization: str
    version: str
    auth: str
    limits: dict[str, int]
