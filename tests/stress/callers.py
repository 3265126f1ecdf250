"""Clients of several API replicas, which repeat each request until it is answered."""

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, Final, NamedTuple

import httpx

from tailrace_shared.ids import new_token

_TIMEOUT_S: Final = 5.0
_RETRY_S: Final = 0.1
_UNDECIDED: Final = {"pending", "running", "waiting"}


class Outcome(NamedTuple):
    """The outcome of one request.

    Attributes:
        began: when it was sent (monotonic).
        ended: when it was answered or given up.
        is_answered: whether the response was not an error of the server.
    """

    began: float
    ended: float
    is_answered: bool


class Callers:
    """Starts executions and decides on their waiting steps, over two replicas.

    A request without a response, or with one that promises nothing (429, 5xx), is repeated at the
    other replica with the same idempotency key.

    Args:
        replicas: the ports of the replicas by their names.
        tenant: the tenant of all requests.
        source: the source of randomness.

    Attributes:
        stalls: for each start, the seconds from the first request to its acceptance.
        problems: responses that must not occur.
        outcomes: the outcomes of all requests, by replica.
    """

    def __init__(self, replicas: Mapping[str, int], tenant: str, source: Random) -> None:
        self.stalls: list[float] = []
        self.problems: list[str] = []
        self.outcomes: dict[str, list[Outcome]] = {name: [] for name in replicas}
        self._replicas = replicas
        self._source = source
        headers = {"x-organization-id": tenant}
        self._client = httpx.AsyncClient(timeout=_TIMEOUT_S, headers=headers)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def start(self, workflow: str, run_input: Any) -> str:
        """Start an execution; return its id."""
        began = time.monotonic()
        path = f"/api/v1/workflows/{workflow}/runs"
        answer = await self._until_answered("POST", path, {"input": run_input})
        self.stalls.append(time.monotonic() - began)
        assert answer.status_code == 202, answer.text
        execution: str = answer.json()["execution_id"]
        return execution

    async def decide(self, execution: str, node_id: str) -> None:
        """Approve a step as soon as it waits."""
        path = f"/api/v1/executions/{execution}"
        body = {"node_id": node_id, "decision": "approved"}
        while True:
            answer = await self._until_answered("POST", f"{path}/resume", body)
            if answer.status_code == 202:
                return
            if answer.status_code != 409:
                self._problem(f"a decision on {execution}", answer)
                return
            shown = await self._until_answered("GET", path)
            if shown.status_code != 200:
                self._problem(f"a page of {execution}", shown)
                return
            document = shown.json()
            statuses = {step["node_id"]: step["status"] for step in document["steps"]}
            if document["status"] not in {"queued", "running", "paused"}:
                self.problems.append(f"{execution} is {document['status']} without a decision")
                return
            if statuses.get(node_id, "pending") not in _UNDECIDED:
                return  # decided by a request that had no response
            await asyncio.sleep(self._source.uniform(0.02, 0.2))

    async def waiting(self, replica: str) -> set[str]:
        """Return the executions that a replica lists as waiting."""
        found: set[str] = set()
        cursor = ""
        while True:
            path = f"/api/v1/waiting?limit=100{cursor}"
            answer = await self._until_answered("GET", path, replicas=[replica])
            assert answer.status_code == 200, answer.text
            page = answer.json()
            found.update(row["execution_id"] for row in page["waiting"])
            if page["cursor"] is None:
                return found
            cursor = f"&cursor={page['cursor']}"

    def _problem(self, what: str, answer: httpx.Response) -> None:
        self.problems.append(f"{what} was answered {answer.status_code}: {answer.text[:200]}")

    async def _until_answered(
        self, method: str, path: str, body: Any = None, replicas: Sequence[str] = ()
    ) -> httpx.Response:
        headers = {"idempotency-key": new_token()} if method == "POST" else {}
        while True:
            replica = self._source.choice(replicas or list(self._replicas))
            url = f"http://127.0.0.1:{self._replicas[replica]}{path}"
            began, answer = time.monotonic(), None
            with contextlib.suppress(httpx.TransportError):
                answer = await self._client.request(method, url, json=body, headers=headers)
            is_answered = answer is not None and answer.status_code < 500
            self.outcomes[replica].append(Outcome(began, time.monotonic(), is_answered))
            if answer is not None and is_answered and answer.status_code != 429:
                return answer
            await asyncio.sleep(_RETRY_S)
