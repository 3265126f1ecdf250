"""Routes to list, read, replay and purge dead letters, jobs that failed permanently.

These routes need the scope ``operator``, because all tenants share the queues.
"""

import base64
from dataclasses import dataclass
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from tailrace_api.web.json_response import json_response
from tailrace_api.web.operation import Answer, Parameter, operation
from tailrace_api.web.query import LIMIT, OPTIONAL_WHITESPACE, checked_number, limit_of, query_value
from tailrace_shared.errors import DeadLetterNotFoundError
from tailrace_shared.execution.timestamps import format_timestamp
from tailrace_shared.stores.dead_letters import DeadLetter, DeadLetters

_MAX_SEQUENCE: Final = 2**63 - 1
_QUEUE: Final = Parameter(
    "queue",
    Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]{1,128}$")],
    "Only dead letters of this queue.",
    # A purge with an empty queue name, for example from a script, must not purge all queues.
    may_be_blank=False,
)
_AFTER: Final = Parameter(
    "after",
    Annotated[int, Meta(ge=0, le=_MAX_SEQUENCE)],
    "The `after` of the previous page; absent for the first page.",
)


class DeadLetterSummary(msgspec.Struct):
    """A dead letter in a list.

    Attributes:
        actor: The actor that the message was for; null if the message cannot be decoded.
        message_id: The id of the message; null if the message cannot be decoded.
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
    """A dead letter with its traceback, headers and message.

    Attributes:
        message: The fields of the message; null if it cannot be decoded.
        body_base64: The raw message.
    """

    traceback: str
    headers: dict[str, str]
    message: dict[str, Any] | None
    body_base64: str


class DeadLetterList(msgspec.Struct):
    """A page of dead letters, oldest first.

    Attributes:
        after: Where the next page begins; null on the last page.
    """

    dead_letters: list[DeadLetterSummary]
    after: int | None


class Replayed(msgspec.Struct):
    """The number of replayed dead letters."""

    replayed: int


class Purged(msgspec.Struct):
    """The number of deleted dead letters."""

    purged: int


@dataclass(frozen=True, slots=True)
class DeadLetterRoutes:
    """The routes under ``/api/v1/dead-letters``."""

    letters: DeadLetters

    @operation(
        "GET",
        "/api/v1/dead-letters",
        scope="operator",
        answers={200: Answer(DeadLetterList, "A page of the list.")},
        parameters=(_QUEUE, LIMIT, _AFTER),
    )
    async def list_page(self, request: Request) -> Response:
        """List dead letters, oldest first."""
        letters, more = await self.letters.page(
            _queue(request), limit=limit_of(request), after=_after(request)
        )
        return json_response(
            DeadLetterList(
                [_summary(letter) for letter in letters], letters[-1].sequence if more else None
            )
        )

    @operation(
        "GET",
        "/api/v1/dead-letters/{letter_id}",
        scope="operator",
        answers={200: Answer(DeadLetterDocument, "The dead letter.")},
        problems=(404,),
    )
    async def get(self, request: Request) -> Response:
        """Show a dead letter with its traceback, headers and message."""
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

    @operation(
        "POST",
        "/api/v1/dead-letters/{letter_id}/replay",
        scope="operator",
        answers={200: Answer(Replayed, "The dead letter is back on its queue.")},
        problems=(404,),
    )
    async def replay(self, request: Request) -> Response:
        """Replay a dead letter on its queue."""
        await self.letters.replay(await self._letter(request))
        return json_response(Replayed(1))

    @operation(
        "POST",
        "/api/v1/dead-letters/replay",
        scope="operator",
        answers={200: Answer(Replayed, "The number of replayed dead letters.")},
        parameters=(_QUEUE,),
    )
    async def replay_all(self, request: Request) -> Response:
        """Replay all dead letters, or those of one queue, on their queues."""
        return json_response(Replayed(await self.letters.replay_all(_queue(request))))

    @operation(
        "DELETE",
        "/api/v1/dead-letters/{letter_id}",
        scope="operator",
        answers={204: Answer(None, "The dead letter is deleted.")},
        problems=(404,),
    )
    async def delete(self, request: Request) -> Response:
        """Delete a dead letter permanently."""
        await self.letters.delete((await self._letter(request)).sequence)
        return Response(status_code=204)

    @operation(
        "DELETE",
        "/api/v1/dead-letters",
        scope="operator",
        answers={200: Answer(Purged, "The number of deleted dead letters.")},
        parameters=(_QUEUE,),
    )
    async def purge(self, request: Request) -> Response:
        """Delete all dead letters, or those of one queue, permanently."""
        return json_response(Purged(await self.letters.purge(_queue(request))))

    async def _letter(self, request: Request) -> DeadLetter:
        text = request.path_params["letter_id"]
        sequence = checked_number("dead letter", text, minimum=1, maximum=_MAX_SEQUENCE)
        letter = await self.letters.get(sequence)
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
    # Unlike other parameters, an empty one is not left out; the store refuses it as a name.
    text = request.query_params.get("queue")
    return None if text is None else text.strip(OPTIONAL_WHITESPACE)


def _after(request: Request) -> int:
    text = query_value(request, "after") or "0"
    return checked_number("after", text, minimum=0, maximum=_MAX_SEQUENCE)
