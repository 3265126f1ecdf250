"""The Python client, with one method per operation of the API."""

import os
import uuid
from collections.abc import Mapping
from typing import Any, Final, Literal, Self
from urllib.parse import quote

import msgspec

from tailrace.stream import ExecutionStream
from tailrace.strict_json import NotJsonError, check_json
from tailrace.transport import Transport

DEFAULT_URL: Final = "http://127.0.0.1:8080"
_DEAD_LETTERS = "/api/v1/dead-letters"


class Client:
    """A client of one API, with one token, for one organisation.

    Every method raises ``RefusedError`` if the API responds with a problem,
    ``UnreachableError`` if it does not respond, and ``ValueError``, with the place, for what JSON
    does not have, such as NaN. Documents are plain dictionaries in the API's JSON format.
    Without ``url`` the client uses ``TAILRACE_URL``, ``TAILRACE_TOKEN`` and
    ``TAILRACE_ORGANIZATION`` of the environment. ``timeout`` is the longest wait for a response, in
    seconds.

        with Client() as client:
            run = client.run("purchase-order", {"po_number": "PO-1", "csv": text})
            for event in client.events(run["execution_id"]):
                print(event.type, event.data)
    """

    def __init__(
        self,
        url: str | None = None,
        token: str = "",
        *,
        organization: str = "",
        timeout: float = 30.0,
    ) -> None:
        if url is None:
            # Only then: a token of the environment must not go to another API.
            url = os.environ.get("TAILRACE_URL") or DEFAULT_URL
            token = token or os.environ.get("TAILRACE_TOKEN", "")
            organization = organization or os.environ.get("TAILRACE_ORGANIZATION", "")
        self._transport = Transport(url, token, organization=organization, timeout=timeout)

    def close(self) -> None:
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def validate(self, definition: Mapping[str, Any]) -> None:
        """Check a definition; raise ``RefusedError`` with all of its problems if it is invalid."""
        self._transport.request("POST", "/api/v1/workflows/validate", body=_encode(definition))

    def apply(self, definition: Mapping[str, Any]) -> dict[str, Any]:
        """Install a definition; return its id and version."""
        path = f"/api/v1/workflows/{_segment(str(definition.get('id', '')))}"
        answer: dict[str, Any] = self._transport.request("PUT", path, body=_encode(definition))
        return answer

    def workflows(self, *, limit: int | None = None, cursor: str | None = None) -> dict[str, Any]:
        """Return a page of workflows by id, with their newest versions and names."""
        page: dict[str, Any] = self._transport.request(
            "GET", "/api/v1/workflows", query={"limit": limit, "cursor": cursor}
        )
        return page

    def workflow(self, workflow_id: str, version: int | None = None) -> dict[str, Any]:
        """Return a workflow with its definition, by default of the newest version."""
        path = f"/api/v1/workflows/{_segment(workflow_id)}"
        found: dict[str, Any] = self._transport.request("GET", path, query={"version": version})
        return found

    def delete_workflow(self, workflow_id: str) -> None:
        """Delete a workflow; its runs continue."""
        self._transport.request("DELETE", f"/api/v1/workflows/{_segment(workflow_id)}")

    def stats(self, workflow_id: str) -> dict[str, Any]:
        """Return how the runs of a workflow went."""
        path = f"/api/v1/workflows/{_segment(workflow_id)}/stats"
        found: dict[str, Any] = self._transport.request("GET", path)
        return found

    def graph(self, workflow_id: str, version: int | None = None) -> dict[str, Any]:
        """Return the nodes, edges and topological layers of a workflow, or of one version."""
        path = f"/api/v1/workflows/{_segment(workflow_id)}/graph"
        graph: dict[str, Any] = self._transport.request("GET", path, query={"version": version})
        return graph

    def run(
        self, workflow_id: str, input_data: Any = None, *, idempotency_key: str | None = None
    ) -> dict[str, Any]:
        """Start a run; return its execution id, status and stream URL.

        The request carries an Idempotency-Key (``idempotency_key`` or a new one), so a request that
        is repeated after a lost response starts only one run.
        """
        answer: dict[str, Any] = self._transport.request(
            "POST",
            f"/api/v1/workflows/{_segment(workflow_id)}/runs",
            body=_encode({"input": {} if input_data is None else input_data}),
            headers=_key(idempotency_key),
        )
        return answer

    def get(self, execution_id: str, *, include_logs: bool = False) -> dict[str, Any]:
        """Return a run's document; with ``include_logs`` also all events of its log."""
        document: dict[str, Any] = self._transport.request(
            "GET",
            f"/api/v1/executions/{_segment(execution_id)}",
            query={"include_logs": "true" if include_logs else None},
        )
        return document

    def list(
        self,
        workflow_id: str | None = None,
        *,
        status: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> dict[str, Any]:
        """Return a page of runs of one workflow or of all, newest first."""
        page: dict[str, Any] = self._transport.request(
            "GET",
            "/api/v1/executions",
            query={"workflow_id": workflow_id, "status": status, "limit": limit, "cursor": cursor},
        )
        return page

    def output(self, execution_id: str, step_id: str) -> Any:
        """Return the output of one step, even if it is too large for the run's document."""
        path = f"/api/v1/executions/{_segment(execution_id)}/steps/{_segment(step_id)}/output"
        return self._transport.request("GET", path)

    def cancel(
        self, execution_id: str, reason: str | None = None, *, idempotency_key: str | None = None
    ) -> dict[str, Any]:
        """Request the cancellation of a run; an event in its log reports the result."""
        return self._command(execution_id, "cancel", {"reason": reason}, idempotency_key)

    def pause(
        self, execution_id: str, reason: str | None = None, *, idempotency_key: str | None = None
    ) -> dict[str, Any]:
        """Request a pause: running steps finish, and no new ones start until ``resume``."""
        return self._command(execution_id, "pause", {"reason": reason}, idempotency_key)

    def resume(
        self,
        execution_id: str,
        node_id: str | None = None,
        *,
        decision: str | None = None,
        data: Any = None,
        idempotency_key: str | None = None,
    ) -> dict[str, Any]:
        """Continue a paused run, or decide a waiting step.

        With ``node_id``, ``decision`` (``approved`` or ``rejected``) or ``data`` this decides a
        step; without ``node_id`` it is the only waiting step. With none of them it continues a
        paused run, and approves the only waiting step of any other run.
        """
        body = {"node_id": node_id, "decision": decision, "data": data}
        return self._command(execution_id, "resume", body, idempotency_key)

    def rerun(
        self,
        execution_id: str,
        from_node: str | None = None,
        *,
        failed: bool = False,
        version: int | Literal["latest"] | None = None,
        input_data: Any = None,
        idempotency_key: str | None = None,
    ) -> dict[str, Any]:
        """Run an ended run again; return the new run.

        With ``from_node``, a node or an item of a map (``pages[3]``), it keeps what does not depend
        on that; with ``failed`` it keeps what has succeeded. With ``version`` or ``input_data``
        it runs that version, or has that input, and what these change runs again as well.
        """
        body = {
            "from_node": from_node,
            "failed": failed or None,
            "version": version,
            "input": input_data,
        }
        return self._command(execution_id, "rerun", body, idempotency_key)

    def cancel_all(
        self,
        matching: Mapping[str, Any],
        reason: str | None = None,
        *,
        dry_run: bool = False,
        limit: int | None = None,
        idempotency_key: str | None = None,
    ) -> dict[str, Any]:
        """Cancel the runs that match a filter and have not ended; return them.

        ``matching`` has the filters of lists: ``workflow_id``, ``status``, ``tag``, ``parent``,
        ``created_after``, ``created_before``, ``q``. With ``dry_run`` nothing is cancelled. While
        ``more`` is true in the answer, repeat the call.
        """
        body = {"filter": matching, "reason": reason, "dry_run": dry_run, "limit": limit}
        return self._bulk("cancel", body, idempotency_key)

    def rerun_all(
        self,
        matching: Mapping[str, Any],
        *,
        failed: bool = False,
        version: int | Literal["latest"] | None = None,
        dry_run: bool = False,
        limit: int | None = None,
        cursor: str | None = None,
        idempotency_key: str | None = None,
    ) -> dict[str, Any]:
        """Run the ended runs again that match a filter, by default failed ones; return them.

        ``matching`` is that of :meth:`cancel_all`, the options are those of :meth:`rerun`. With
        ``dry_run`` nothing runs. ``cursor`` is that of the preceding answer.
        """
        body = {
            "filter": matching,
            "failed": failed,
            "version": version,
            "dry_run": dry_run,
            "limit": limit,
            "cursor": cursor,
        }
        return self._bulk("rerun", body, idempotency_key)

    def _bulk(self, command: str, body: Mapping[str, Any], key: str | None) -> dict[str, Any]:
        answer: dict[str, Any] = self._transport.request(
            "POST",
            f"/api/v1/executions/{command}",
            body=_encode({name: value for name, value in body.items() if value is not None}),
            headers=_key(key),
        )
        return answer

    def signal(
        self,
        procedure: str,
        data: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
    ) -> int:
        """Send a trigger to all steps that await it; return the number of resumed steps."""
        answer = self._transport.request(
            "POST",
            f"/api/v1/triggers/{_segment(procedure)}",
            body=_encode({} if data is None else data),
            headers=_key(idempotency_key),
        )
        matched: int = answer["matched"]
        return matched

    def waiting(self, *, limit: int | None = None, cursor: str | None = None) -> dict[str, Any]:
        """Return a page of the steps that wait for a signal, newest runs first."""
        page: dict[str, Any] = self._transport.request(
            "GET", "/api/v1/waiting", query={"limit": limit, "cursor": cursor}
        )
        return page

    def _command(
        self, execution_id: str, command: str, body: Mapping[str, Any], key: str | None
    ) -> dict[str, Any]:
        answer: dict[str, Any] = self._transport.request(
            "POST",
            f"/api/v1/executions/{_segment(execution_id)}/{command}",
            body=_encode({name: value for name, value in body.items() if value is not None}),
            headers=_key(key),
        )
        return answer

    def schedule(
        self,
        workflow_id: str,
        cron: str,
        input_data: Any = None,
        *,
        time_zone: str | None = None,
        schedule_id: str | None = None,
    ) -> dict[str, Any]:
        """Schedule runs; return the schedule.

        ``cron`` is a line of five fields, or of six (seconds first), ``@every 5m`` or a name like
        ``@hourly``. An existing schedule with the same id is replaced.
        """
        body = {
            # Generated here, so that a request can be repeated after a lost response.
            "id": str(uuid.uuid4()) if schedule_id is None else schedule_id,
            "workflow_id": workflow_id,
            "cron": cron,
            "time_zone": time_zone,
            "input": {} if input_data is None else input_data,
        }
        answer: dict[str, Any] = self._transport.request(
            "POST", "/api/v1/schedules", body=_encode(body)
        )
        return answer

    def schedules(self, *, limit: int | None = None, cursor: str | None = None) -> dict[str, Any]:
        """Return a page of schedules, ordered by id."""
        page: dict[str, Any] = self._transport.request(
            "GET", "/api/v1/schedules", query={"limit": limit, "cursor": cursor}
        )
        return page

    def unschedule(self, schedule_id: str) -> None:
        """Delete a schedule; its runs continue."""
        self._transport.request("DELETE", f"/api/v1/schedules/{_segment(schedule_id)}")

    def pause_schedule(self, schedule_id: str) -> dict[str, Any]:
        """Pause a schedule; return it. It does not fire until it is resumed."""
        return self._schedule_command(schedule_id, "pause", {})

    def resume_schedule(self, schedule_id: str) -> dict[str, Any]:
        """Resume a paused schedule; return it."""
        return self._schedule_command(schedule_id, "resume", {})

    def run_schedule(
        self, schedule_id: str, *, idempotency_key: str | None = None
    ) -> dict[str, Any]:
        """Start a run of a schedule now; return it."""
        return self._schedule_command(schedule_id, "run", {}, idempotency_key)

    def backfill(
        self, schedule_id: str, start: str, end: str, *, dry_run: bool = False
    ) -> dict[str, Any]:
        """Start the runs of a schedule from ``start`` until before ``end`` (RFC 3339).

        Returns the firings with their runs; with ``dry_run`` only the firings.
        """
        body = {"start": start, "end": end, "dry_run": dry_run}
        return self._schedule_command(schedule_id, "backfill", body)

    def _schedule_command(
        self, schedule_id: str, command: str, body: Mapping[str, Any], key: str | None = None
    ) -> dict[str, Any]:
        answer: dict[str, Any] = self._transport.request(
            "POST",
            f"/api/v1/schedules/{_segment(schedule_id)}/{command}",
            body=_encode(body),
            headers=_key(key),
        )
        return answer

    def dead_letters(
        self, queue: str | None = None, *, limit: int | None = None, after: int | None = None
    ) -> dict[str, Any]:
        """Return a page of dead letters, oldest first."""
        query = {"queue": queue, "limit": limit, "after": after}
        page: dict[str, Any] = self._transport.request("GET", _DEAD_LETTERS, query=query)
        return page

    def dead_letter(self, letter_id: int) -> dict[str, Any]:
        """Return one dead letter with its message and traceback."""
        letter: dict[str, Any] = self._transport.request("GET", f"{_DEAD_LETTERS}/{letter_id}")
        return letter

    def replay(self, letter_id: int) -> int:
        """Put a dead letter back on its queue; return the number of replayed letters."""
        return self._count("POST", f"/{letter_id}/replay", "replayed")

    def replay_all(self, queue: str | None = None) -> int:
        """Put all dead letters (of one queue) back; return the number of replayed letters."""
        return self._count("POST", "/replay", "replayed", queue)

    def purge(self, letter_id: int) -> int:
        """Delete a dead letter; return the number of deleted letters."""
        self._transport.request("DELETE", f"{_DEAD_LETTERS}/{letter_id}")
        return 1

    def purge_all(self, queue: str | None = None) -> int:
        """Delete all dead letters (of one queue); return the number of deleted letters."""
        return self._count("DELETE", "", "purged", queue)

    def _count(self, method: str, path: str, what: str, queue: str | None = None) -> int:
        answer = self._transport.request(method, _DEAD_LETTERS + path, query={"queue": queue})
        count: int = answer[what]
        return count

    def events(self, execution_id: str, last_event_id: str = "") -> ExecutionStream:
        """Return an iterator over the events of a run, or over those after ``last_event_id``.

        It follows the run until the run ends, and reconnects when a connection is lost.
        """
        return ExecutionStream(self._transport, _segment(execution_id), last_event_id)


def _segment(value: str) -> str:
    # Unquoted, an id with a slash, a question mark or only dots would address another route.
    return quote(value, safe="").replace(".", "%2E")


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
