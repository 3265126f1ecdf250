"""The Python client: everything that the API does, as methods."""

import uuid
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import msgspec

from tailrace.stream import ExecutionStream
from tailrace.transport import Transport

DEFAULT_URL = "http://127.0.0.1:8080"
_DEAD_LETTERS = "/api/v1/dead-letters"


class Client:
    """One API, spoken to with one token.

    Every method raises ``RefusedError`` if the API answers with a problem and
    ``UnreachableError`` if it does not answer. Documents are plain dictionaries, as the API
    writes them.

        with Client() as client:
            run = client.run("purchase-order", {"po_number": "PO-1", "csv": text})
            for event in client.events(run["execution_id"]):
                print(event.type, event.data)
    """

    def __init__(self, url: str = DEFAULT_URL, token: str = "", *, timeout: float = 30.0) -> None:
        self._transport = Transport(url, token, timeout=timeout)

    def close(self) -> None:
        """Close the connections to the API."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def validate(self, definition: Mapping[str, Any]) -> None:
        """Check a definition; the error that is raised lists all of its problems."""
        self._transport.request("POST", "/api/v1/workflows/validate", body=_encode(definition))

    def apply(self, definition: Mapping[str, Any]) -> dict[str, Any]:
        """Install a definition; return its id and version."""
        path = f"/api/v1/workflows/{_segment(str(definition.get('id', '')))}"
        answer: dict[str, Any] = self._transport.request("PUT", path, body=_encode(definition))
        return answer

    def graph(self, workflow_id: str, version: int | None = None) -> dict[str, Any]:
        """Return the nodes, edges and topological layers of a workflow, or of one version."""
        path = f"/api/v1/workflows/{_segment(workflow_id)}/graph"
        graph: dict[str, Any] = self._transport.request("GET", path, query={"version": version})
        return graph

    def run(
        self, workflow_id: str, input_data: Any = None, *, idempotency_key: str | None = None
    ) -> dict[str, Any]:
        """Start a run; return its execution id, status and stream URL.

        The request carries an Idempotency-Key, your own or a new one, so that it starts one run
        even if its answer was lost and it had to be sent again.
        """
        answer: dict[str, Any] = self._transport.request(
            "POST",
            f"/api/v1/workflows/{_segment(workflow_id)}/runs",
            body=_encode({"input": {} if input_data is None else input_data}),
            headers={"Idempotency-Key": idempotency_key or str(uuid.uuid4())},
        )
        return answer

    def get(self, execution_id: str, *, include_logs: bool = False) -> dict[str, Any]:
        """Return a run's document, with every event of its log if asked for."""
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
        """Return a page of runs, newest first, of one workflow or of all."""
        page: dict[str, Any] = self._transport.request(
            "GET",
            "/api/v1/executions",
            query={"workflow_id": workflow_id, "status": status, "limit": limit, "cursor": cursor},
        )
        return page

    def cancel(self, execution_id: str, reason: str | None = None) -> dict[str, Any]:
        """Ask for a run to be cancelled; its log says when it was."""
        body = {} if reason is None else {"reason": reason}
        answer: dict[str, Any] = self._transport.request(
            "POST", f"/api/v1/executions/{_segment(execution_id)}/cancel", body=_encode(body)
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
        """Have runs started by ``cron``; return the schedule.

        ``cron`` is a line of six fields (seconds first), ``@every 5m`` or a name like
        ``@hourly``. A schedule takes the place of an earlier one with its id.
        """
        body = {
            # Chosen here, so that a request whose answer was lost can be sent again.
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
        """Return a page of schedules, by id."""
        page: dict[str, Any] = self._transport.request(
            "GET", "/api/v1/schedules", query={"limit": limit, "cursor": cursor}
        )
        return page

    def unschedule(self, schedule_id: str) -> None:
        """End a schedule; its runs go on."""
        self._transport.request("DELETE", f"/api/v1/schedules/{_segment(schedule_id)}")

    def dead_letters(
        self, queue: str | None = None, *, limit: int | None = None, after: int | None = None
    ) -> dict[str, Any]:
        """Return a page of the jobs that failed for good, oldest first."""
        query = {"queue": queue, "limit": limit, "after": after}
        page: dict[str, Any] = self._transport.request("GET", _DEAD_LETTERS, query=query)
        return page

    def dead_letter(self, letter_id: int) -> dict[str, Any]:
        """Return a dead letter with its traceback and the message."""
        letter: dict[str, Any] = self._transport.request("GET", f"{_DEAD_LETTERS}/{letter_id}")
        return letter

    def replay(self, letter_id: int) -> int:
        """Put a dead letter back on its queue; return how many that were."""
        return self._count("POST", f"/{letter_id}/replay", "replayed")

    def replay_all(self, queue: str | None = None) -> int:
        """Put all dead letters, or those of a queue, back; return how many."""
        return self._count("POST", "/replay", "replayed", queue)

    def purge(self, letter_id: int) -> int:
        """Delete a dead letter for good; return how many that were."""
        self._transport.request("DELETE", f"{_DEAD_LETTERS}/{letter_id}")
        return 1

    def purge_all(self, queue: str | None = None) -> int:
        """Delete all dead letters, or those of a queue, for good; return how many."""
        return self._count("DELETE", "", "purged", queue)

    def _count(self, method: str, path: str, what: str, queue: str | None = None) -> int:
        answer = self._transport.request(method, _DEAD_LETTERS + path, query={"queue": queue})
        count: int = answer[what]
        return count

    def events(self, execution_id: str, last_event_id: str = "") -> ExecutionStream:
        """Return the events of a run, from its first one or from after ``last_event_id``.

        Iterating follows the run until it ends, across lost connections.
        """
        return ExecutionStream(self._transport, _segment(execution_id), last_event_id)


def _segment(value: str) -> str:
    # Not quoted, an id with a slash, a question mark or only dots in it would name another route.
    return quote(value, safe="").replace(".", "%2E")


def _encode(document: Any) -> bytes:
    return msgspec.json.encode(document)
