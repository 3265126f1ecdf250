"""The operations of the API, as requests that a client sends. No I/O.

``Client`` and ``AsyncClient`` have one method for each function here, with the same parameters.
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, Literal, NamedTuple, TypeVar
from urllib.parse import quote

import msgspec

from tailrace.documents import (
    Backfill,
    BulkAnswer,
    Me,
    RunDocument,
    RunPage,
    Schedule,
    SchedulePage,
    StartedRun,
    Step,
    WaitingPage,
    Workflow,
    WorkflowPage,
    WorkflowVersions,
)
from tailrace.strict_json import NotJsonError, check_json

T = TypeVar("T")

_DEAD_LETTERS = "/api/v1/dead-letters"


class Call(NamedTuple, Generic[T]):
    """A request, and what its answer becomes.

    Attributes:
        into: makes the result from the decoded answer.
    """

    method: str
    path: str
    into: Callable[[Any], T]
    body: bytes | None = None
    headers: Mapping[str, str] | None = None
    query: Mapping[str, Any] | None = None


def validate(definition: Mapping[str, Any]) -> Call[None]:
    """Check a definition; raise ``RefusedError`` with all of its problems if it is invalid."""
    return Call("POST", "/api/v1/workflows/validate", _nothing, _encode(definition))


def apply(definition: Mapping[str, Any]) -> Call[Workflow]:
    """Install a definition; return its id and version."""
    path = f"/api/v1/workflows/{segment(str(definition.get('id', '')))}"
    return Call("PUT", path, Workflow, _encode(definition))


def workflows(*, limit: int | None = None, cursor: str | None = None) -> Call[WorkflowPage]:
    """Return a page of workflows by id, with their newest versions and names."""
    query = {"limit": limit, "cursor": cursor}
    return Call("GET", "/api/v1/workflows", WorkflowPage, query=query)


def workflow(workflow_id: str, version: int | None = None) -> Call[Workflow]:
    """Return a workflow with its definition, by default of the newest version."""
    path = f"/api/v1/workflows/{segment(workflow_id)}"
    return Call("GET", path, Workflow, query={"version": version})


def versions(
    workflow_id: str, *, limit: int | None = None, cursor: str | None = None
) -> Call[WorkflowVersions]:
    """Return a page of the versions of a workflow that are kept, newest first."""
    path = f"/api/v1/workflows/{segment(workflow_id)}/versions"
    return Call("GET", path, WorkflowVersions, query={"limit": limit, "cursor": cursor})


def delete_workflow(workflow_id: str) -> Call[None]:
    """Delete a workflow; its runs continue."""
    return Call("DELETE", f"/api/v1/workflows/{segment(workflow_id)}", _nothing)


def stats(workflow_id: str) -> Call[dict[str, Any]]:
    """Return how the runs of a workflow went."""
    return Call("GET", f"/api/v1/workflows/{segment(workflow_id)}/stats", _as_it_is)


def graph(workflow_id: str, version: int | None = None) -> Call[dict[str, Any]]:
    """Return the nodes, edges and topological layers of a workflow, or of one version."""
    path = f"/api/v1/workflows/{segment(workflow_id)}/graph"
    return Call("GET", path, _as_it_is, query={"version": version})


def run(
    workflow_id: str,
    input_data: Any = None,
    *,
    tags: Sequence[str] = (),
    idempotency_key: str | None = None,
) -> Call[StartedRun]:
    """Start a run; return its execution id, status and stream URL.

    The request carries an Idempotency-Key (``idempotency_key`` or a new one), so a request that
    is repeated after a lost response starts only one run.
    """
    body: dict[str, Any] = {"input": {} if input_data is None else input_data}
    if tags:
        body["tags"] = list(tags)
    path = f"/api/v1/workflows/{segment(workflow_id)}/runs"
    return Call("POST", path, StartedRun, _encode(body), _key(idempotency_key))


def get(execution_id: str, *, include_logs: bool = False) -> Call[RunDocument]:
    """Return a run's document; with ``include_logs`` also all events of its log."""
    query = {"include_logs": "true" if include_logs else None}
    return Call("GET", f"/api/v1/executions/{segment(execution_id)}", RunDocument, query=query)


def list_runs(  # noqa: PLR0913 - one parameter per filter
    workflow_id: str | None = None,
    *,
    status: str | None = None,
    tag: str | None = None,
    parent: str | None = None,
    created_after: str | None = None,
    created_before: str | None = None,
    text: str | None = None,
    limit: int | None = None,
    cursor: str | None = None,
) -> Call[RunPage]:
    """Return a page of runs of one workflow or of all, newest first."""
    query = {
        "workflow_id": workflow_id,
        "status": status,
        "tag": tag,
        "parent": parent,
        "created_after": created_after,
        "created_before": created_before,
        "q": text,
        "limit": limit,
        "cursor": cursor,
    }
    return Call("GET", "/api/v1/executions", RunPage, query=query)


def step(execution_id: str, step_id: str) -> Call[Step]:
    """Return a step with its input as rendered, its attempts and log lines."""
    path = f"/api/v1/executions/{segment(execution_id)}/steps/{segment(step_id)}"
    return Call("GET", path, Step)


def output(execution_id: str, step_id: str) -> Call[Any]:
    """Return the output of one step, even if it is too large for the run's document."""
    path = f"/api/v1/executions/{segment(execution_id)}/steps/{segment(step_id)}/output"
    return Call("GET", path, _as_it_is)


def cancel(
    execution_id: str, reason: str | None = None, *, idempotency_key: str | None = None
) -> Call[StartedRun]:
    """Request the cancellation of a run; an event in its log reports the result."""
    return _command(execution_id, "cancel", {"reason": reason}, idempotency_key)


def pause(
    execution_id: str, reason: str | None = None, *, idempotency_key: str | None = None
) -> Call[StartedRun]:
    """Request a pause: running steps finish, and no new ones start until ``resume``."""
    return _command(execution_id, "pause", {"reason": reason}, idempotency_key)


def resume(
    execution_id: str,
    node_id: str | None = None,
    *,
    decision: str | None = None,
    data: Any = None,
    only_paused: bool = False,
    idempotency_key: str | None = None,
) -> Call[StartedRun]:
    """Continue a paused run, or decide a waiting step.

    With ``node_id``, ``decision`` (``approved`` or ``rejected``) or ``data`` this decides a step;
    without ``node_id`` it is the only waiting step. With none of them it continues a paused run,
    and approves the only waiting step of any other run; with ``only_paused`` any other run is
    refused.
    """
    body = {
        "node_id": node_id,
        "decision": decision,
        "data": data,
        "only_paused": only_paused or None,
    }
    return _command(execution_id, "resume", body, idempotency_key)


def rerun(
    execution_id: str,
    from_node: str | None = None,
    *,
    failed: bool = False,
    version: int | Literal["latest"] | None = None,
    input_data: Any = None,
    idempotency_key: str | None = None,
) -> Call[StartedRun]:
    """Run an ended run again; return the new run.

    With ``from_node``, a node or an item of a map (``pages[3]``), it keeps what does not depend on
    that; with ``failed`` it keeps what has succeeded. With ``version`` or ``input_data`` it runs
    that version, or has that input, and what these change runs again as well.
    """
    body = {
        "from_node": from_node,
        "failed": failed or None,
        "version": version,
        "input": input_data,
    }
    return _command(execution_id, "rerun", body, idempotency_key)


def cancel_all(
    matching: Mapping[str, Any],
    reason: str | None = None,
    *,
    dry_run: bool = False,
    limit: int | None = None,
    idempotency_key: str | None = None,
) -> Call[BulkAnswer]:
    """Cancel the runs that match a filter and have not ended; return them.

    ``matching`` has the filters of lists: ``workflow_id``, ``status``, ``tag``, ``parent``,
    ``created_after``, ``created_before``, ``q``. With ``dry_run`` nothing is cancelled. While
    ``more`` is true in the answer, repeat the call.
    """
    body = {"filter": matching, "reason": reason, "dry_run": dry_run, "limit": limit}
    return _bulk("cancel", body, idempotency_key)


def rerun_all(
    matching: Mapping[str, Any],
    *,
    failed: bool = False,
    version: int | Literal["latest"] | None = None,
    dry_run: bool = False,
    limit: int | None = None,
    cursor: str | None = None,
    idempotency_key: str | None = None,
) -> Call[BulkAnswer]:
    """Run the ended runs again that match a filter, by default failed ones; return them.

    ``matching`` is that of ``cancel_all``, the options are those of ``rerun``. With ``dry_run``
    nothing runs. ``cursor`` is that of the preceding answer.
    """
    body = {
        "filter": matching,
        "failed": failed,
        "version": version,
        "dry_run": dry_run,
        "limit": limit,
        "cursor": cursor,
    }
    return _bulk("rerun", body, idempotency_key)


def signal(
    procedure: str,
    data: Mapping[str, Any] | None = None,
    *,
    idempotency_key: str | None = None,
) -> Call[int]:
    """Send a trigger to all steps that await it; return the number of resumed steps."""
    body = _encode({} if data is None else data)
    path = f"/api/v1/triggers/{segment(procedure)}"
    return Call("POST", path, _field("matched"), body, _key(idempotency_key))


def waiting(*, limit: int | None = None, cursor: str | None = None) -> Call[WaitingPage]:
    """Return a page of the steps that wait for a signal, newest runs first."""
    query = {"limit": limit, "cursor": cursor}
    return Call("GET", "/api/v1/waiting", WaitingPage, query=query)


def schedule(
    workflow_id: str,
    cron: str,
    input_data: Any = None,
    *,
    time_zone: str | None = None,
    schedule_id: str | None = None,
    overlap: str | None = None,
) -> Call[Schedule]:
    """Schedule runs; return the schedule.

    ``cron`` is a line of five fields, or of six (seconds first), ``@every 5m`` or a name like
    ``@hourly``. An existing schedule with the same id is replaced. ``overlap`` is ``queue``,
    ``skip`` or ``cancel``.
    """
    body = {
        # Generated here, so that a request can be repeated after a lost response.
        "id": str(uuid.uuid4()) if schedule_id is None else schedule_id,
        "workflow_id": workflow_id,
        "cron": cron,
        "time_zone": time_zone,
        "input": {} if input_data is None else input_data,
    }
    if overlap is not None:
        body["overlap"] = overlap
    return Call("POST", "/api/v1/schedules", Schedule, _encode(body))


def schedules(*, limit: int | None = None, cursor: str | None = None) -> Call[SchedulePage]:
    """Return a page of schedules, ordered by id."""
    query = {"limit": limit, "cursor": cursor}
    return Call("GET", "/api/v1/schedules", SchedulePage, query=query)


def unschedule(schedule_id: str) -> Call[None]:
    """Delete a schedule; its runs continue."""
    return Call("DELETE", f"/api/v1/schedules/{segment(schedule_id)}", _nothing)


def pause_schedule(schedule_id: str) -> Call[Schedule]:
    """Pause a schedule; return it. It does not fire until it is resumed."""
    return _schedule_command(schedule_id, "pause", Schedule)


def resume_schedule(schedule_id: str) -> Call[Schedule]:
    """Resume a paused schedule; return it."""
    return _schedule_command(schedule_id, "resume", Schedule)


def run_schedule(schedule_id: str, *, idempotency_key: str | None = None) -> Call[StartedRun]:
    """Start a run of a schedule now; return it."""
    return _schedule_command(schedule_id, "run", StartedRun, key=idempotency_key)


def backfill(schedule_id: str, start: str, end: str, *, dry_run: bool = False) -> Call[Backfill]:
    """Start the runs of a schedule from ``start`` until before ``end`` (RFC 3339).

    Returns the firings with their runs; with ``dry_run`` only the firings.
    """
    body = {"start": start, "end": end, "dry_run": dry_run}
    return _schedule_command(schedule_id, "backfill", Backfill, body)


def dead_letters(
    queue: str | None = None, *, limit: int | None = None, after: int | None = None
) -> Call[dict[str, Any]]:
    """Return a page of dead letters, oldest first."""
    query = {"queue": queue, "limit": limit, "after": after}
    return Call("GET", _DEAD_LETTERS, _as_it_is, query=query)


def dead_letter(letter_id: int) -> Call[dict[str, Any]]:
    """Return one dead letter with its message and traceback."""
    return Call("GET", f"{_DEAD_LETTERS}/{letter_id}", _as_it_is)


def replay(letter_id: int) -> Call[int]:
    """Put a dead letter back on its queue; return the number of replayed letters."""
    return Call("POST", f"{_DEAD_LETTERS}/{letter_id}/replay", _field("replayed"))


def replay_all(queue: str | None = None) -> Call[int]:
    """Put all dead letters (of one queue) back; return the number of replayed letters."""
    return Call("POST", f"{_DEAD_LETTERS}/replay", _field("replayed"), query={"queue": queue})


def purge(letter_id: int) -> Call[int]:
    """Delete a dead letter; return the number of deleted letters."""
    return Call("DELETE", f"{_DEAD_LETTERS}/{letter_id}", lambda _answer: 1)


def purge_all(queue: str | None = None) -> Call[int]:
    """Delete all dead letters (of one queue); return the number of deleted letters."""
    return Call("DELETE", _DEAD_LETTERS, _field("purged"), query={"queue": queue})


def me() -> Call[Me]:
    """Return the caller, and the limits of the server."""
    return Call("GET", "/api/v1/me", Me)


def segment(value: str) -> str:
    """Return a value as one segment of a path."""
    # Unquoted, an id with a slash, a question mark or only dots would address another route.
    return quote(value, safe="").replace(".", "%2E")


def _command(
    execution_id: str, command: str, body: Mapping[str, Any], key: str | None
) -> Call[StartedRun]:
    path = f"/api/v1/executions/{segment(execution_id)}/{command}"
    return Call("POST", path, StartedRun, _encode(_given(body)), _key(key))


def _bulk(command: str, body: Mapping[str, Any], key: str | None) -> Call[BulkAnswer]:
    path = f"/api/v1/executions/{command}"
    return Call("POST", path, BulkAnswer, _encode(_given(body)), _key(key))


def _schedule_command(
    schedule_id: str,
    command: str,
    into: Callable[[Any], T],
    body: Mapping[str, Any] | None = None,
    key: str | None = None,
) -> Call[T]:
    path = f"/api/v1/schedules/{segment(schedule_id)}/{command}"
    return Call("POST", path, into, _encode(body or {}), _key(key))


def _nothing(_answer: Any) -> None:
    """Return nothing: the answer only says that the request succeeded."""


def _as_it_is(answer: Any) -> Any:
    return answer


def _field(name: str) -> Callable[[Any], int]:
    return lambda answer: int(answer[name])


def _given(body: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if value is not None}


def _key(idempotency_key: str | None) -> dict[str, str]:
    # A request that is repeated after a lost response takes effect once.
    return {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}


def _encode(document: Any) -> bytes:
    try:
        # Encoded as null, NaN would change silently.
        check_json(msgspec.to_builtins(document, str_keys=True))
        return msgspec.json.encode(document)
    except NotJsonError as error:
        raise ValueError(str(error)) from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
