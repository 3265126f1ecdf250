"""Operations: what a route does, whom it serves and what it answers, said where the route is made.

Every route of the API is one, so none can exist that nobody has said who may call, and none that
``/openapi.json`` does not describe.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, get_name

from tailrace_api.web.strict_query import check_query
from tailrace_shared.ids import ID_PATTERN

Scope = Literal[
    "workflows:read", "workflows:write", "executions:read", "executions:write", "operator"
]

Handler = Callable[[Request], Awaitable[Response]]

EVENT_STREAM: Final = "text/event-stream"

_WORD: Final = re.compile("[A-Z][a-z]*")


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of the query or a header.

    Attributes:
        name: as it is sent.
        type: what its text means; a type that msgspec has a JSON Schema of.
        description: a sentence for readers of the documentation.
        place: where it is sent.
        is_required: whether a request without it is refused.
        may_be_blank: whether an empty one in the query is one that is left out, as forms send it;
            only of those that are not required, and whose type has nothing empty itself.
    """

    name: str
    type: Any
    description: str
    place: Literal["query", "header"] = "query"
    is_required: bool = False
    may_be_blank: bool = True


@dataclass(frozen=True, slots=True)
class Answer:
    """What a successful request is answered.

    Attributes:
        type: a type that msgspec has a JSON Schema of; None for an answer without a body.
        description: a sentence for readers of the documentation.
        media_type: of the body.
        headers: the names of headers that tell something.
    """

    type: Any
    description: str
    media_type: str = "application/json"
    headers: tuple[str, ...] = ()


# An empty one names none: front ends send those where they have nothing to say.
_Organization = Annotated[str, Meta(pattern=ID_PATTERN.replace("{1,", "{0,"))]

TENANT: Final = (
    Parameter(
        "X-Organization-ID",
        _Organization,
        "The organization that the request is about, where it is not the only one of the token.",
        place="header",
    ),
    Parameter("organization_id", _Organization, "The same, for clients that send no headers."),
    Parameter("merchantId", _Organization, "The same, as front ends of the tenant feed call it."),
)
"""Parameters of every operation that is about a tenant."""

CREDENTIALS: Final = ("Authorization", "access_token", "ticket")
"""Parameters of the query in which an EventSource, which sends no headers, says who asks."""

_ALWAYS_KNOWN: Final = frozenset(
    [*CREDENTIALS, *(parameter.name for parameter in TENANT if parameter.place == "query")]
)


class Operation(Route):
    """A route with one method, whose query has no parameters but those declared.

    Args:
        method: for example ``GET``, which includes ``HEAD``.
        path: with its parameters in braces.
        handler: what serves it.
        scope: what a token must allow; None: everybody may call it, without a token.
        more_scopes: what it must allow besides.
        summary: what it does, in a few words.
        answers: by status, what a successful request is answered.
        problems: the statuses of refusals beside those that any request may meet.
        body: the type of the request's body, of which msgspec has a JSON Schema; None: it has none.
        is_body_required: whether a request without a body is refused.
        parameters: of the query and headers.
    """

    def __init__(  # noqa: PLR0913 - a declaration, and one place for all of it
        self,
        method: str,
        path: str,
        handler: Handler,
        *,
        scope: Scope | None,
        more_scopes: tuple[Scope, ...] = (),
        summary: str,
        answers: Mapping[int, Answer],
        problems: tuple[int, ...] = (),
        body: Any = None,
        is_body_required: bool = True,
        parameters: tuple[Parameter, ...] = (),
    ) -> None:
        super().__init__(path, self._serve, methods=[method], name=get_name(handler))
        self.method: Final = method
        self.scope: Final = scope
        self.scopes: Final = () if scope is None else (scope, *more_scopes)
        self.summary: Final = summary
        self.answers: Final = answers
        self.problems: Final = problems
        self.body: Final = body
        self.is_body_required: Final = is_body_required
        self.parameters: Final = parameters
        self._handler = handler
        self._known = _ALWAYS_KNOWN.union(
            parameter.name for parameter in parameters if parameter.place == "query"
        )

    @property
    def group(self) -> str:
        """What it is listed under: the name of the class whose method serves it."""
        name = type(getattr(self._handler, "__self__", self._handler)).__name__
        words = _WORD.findall(name.removesuffix("Routes"))
        return " ".join(words).capitalize()

    @property
    def is_of_tenant(self) -> bool:
        """Whether it is about what belongs to one tenant."""
        return self.scope not in {None, "operator"}

    async def _serve(self, request: Request) -> Response:
        check_query(request, self._known)
        return await self._handler(request)
