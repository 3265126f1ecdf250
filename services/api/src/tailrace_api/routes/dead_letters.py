"""Dead letters: list, read, replay and purge the jobs that failed for good.

These are routes of whoever operates the installation: a queue belongs to all tenants.
"""

import base64
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tailrace_api.json_response import json_response
from tailrace_api.query import checked_number, limit_of
from tailrace_shared.dead_letters import DeadLetter, DeadLetters
from tailrace_shared.errors import DeadLetterNotFoundError
from tailrace_shared.execution.events import format_timestamp

_LARGEST_SEQUENCE: Final = 2**63 - 1


class DeadLetterSummary(msgspec.Struct):
    """What a list shows of a dead letter.

    Attributes:
        actor: the actor that would have run it; None if the message cannot be decoded.
        message_id: the message's id; None likewise.
    """

    id: int
    queue: str
    actor: str | None
    message_id: str | None
    reason: str
    error: str
    deliveries: int
    died_at: str


class DeadLetterDocument(DeadLetterSummary):
    """A dead letter with all that is known of it.

    Attributes:
        message: the message's fields; None if it cannot be decoded.
        body_base64: the message as it was delivered.
    """

    traceback: str
    headers: dict[str, str]
    message: dict[str, Any] | None
    body_base64: str


class DeadLetterRoutes:
    """The routes under ``/api/v1/dead-letters``."""

    def __init__(self, letters: DeadLetters) -> None:
        self._letters = letters

    def routes(self) -> list[Route]:
        """Return the routing table."""
        every = "/api/v1/dead-letters"
        one = f"{every}/{{letter_id}}"
        return [
            Route(every, self.list_page, methods=["GET"]),
            Route(every, self.purge, methods=["DELETE"]),
            Route(f"{every}/replay", self.replay_all, methods=["POST"]),
            Route(one, self.get, methods=["GET"]),
            Route(one, self.delete, methods=["DELETE"]),
            Route(f"{one}/replay", self.replay, methods=["POST"]),
        ]

    async def list_page(self, request: Request) -> Response:
        """List dead letters, oldest first, of one queue or of all."""
        letters, more = await self._letters.page(
            _queue(request), limit=limit_of(request), after=_after(request)
        )
        return json_response(
            {
                "dead_letters": [_summary(letter) for letter in letters],
                "after": letters[-1].sequence if more else None,
            }
        )

    async def get(self, request: Request) -> Response:
        """Return a dead letter with its traceback, its headers and the message."""
        letter = await self._letter(request)
        return json_response(
            DeadLetterDocument(
                **msgspec.structs.asdict(_summary(letter)),
                traceback=letter.traceback,
                headers=letter.headers,
                message=letter.message,
                body_base64=base64.b64encode(letter.body).decode(),
            )
        )

    async def replay(self, request: Request) -> Response:
        """Put a dead letter back on its queue."""
        await self._letters.replay(await self._letter(request))
        return json_response({"replayed": 1})

    async def replay_all(self, request: Request) -> Response:
        """Put all dead letters, or those of a queue, back on their queues."""
        return json_response({"replayed": await self._letters.replay_all(_queue(request))})

    async def delete(self, request: Request) -> Response:
        """Delete a dead letter for good."""
        await self._letters.delete((await self._letter(request)).sequence)
        return Response(status_code=204)

    async def purge(self, request: Request) -> Response:
        """Delete all dead letters, or those of a queue, for good."""
        return json_response({"purged": await self._letters.purge(_queue(request))})

    async def _letter(self, request: Request) -> DeadLetter:
        text = request.path_params["letter_id"]
        sequence = checked_number("dead letter", text, least=1, most=_LARGEST_SEQUENCE)
        letter = await self._letters.get(sequence)
        if letter is None:
            raise DeadLetterNotFoundError(f"there is no dead letter {sequence}")
        return letter


def _summary(letter: DeadLetter) -> DeadLetterSummary:
    actor = (letter.message or {}).get("actor_name")
    return DeadLetterSummary(
        letter.sequence,
        letter.queue,
        actor if isinstance(actor, str) else None,
        letter.message_id,
        letter.reason,
        letter.error,
        letter.deliveries,
        format_timestamp(letter.died_at),
    )


def _queue(request: Request) -> str | None:
    return request.query_params.get("queue")


def _after(request: Request) -> int:
    text = request.query_params.get("after", "0")
    return checked_number("after", text, least=0, most=_LARGEST_SEQUENCE)
