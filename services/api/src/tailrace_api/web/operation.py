"""Declare routes with their scope, parameters, body, answers and problems (operations).

Every route of the API is an operation, so none can exist without a declared scope or be missing
from ``/openapi.json``. A class of routes declares its handlers with the decorator ``operation``:

    @operation("GET", "/api/v1/workflows", scope="workflows:read", answers={200: Answer(…)})
    async def list_page(self, request: Request) -> Response:
        \"\"\"List workflows by id.\"\"\"

The first line of the docstring is the summary in the API description.
"""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, Required, TypedDict, TypeVar, Unpack

from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route, get_name

from tailrace_api.web.request_turns import end_turn
from tailrace_api.web.strict_query import check_query
from tailrace_shared.ids import ID_PATTERN

Scope = Literal[
    "workflows:read", "workflows:write", "executions:read", "executions:write", "operator"
]

Handler = Callable[[Request], Awaitable[Response]]
_Method = TypeVar("_Method", bound=Callable[[Any, Request], Awaitable[Response]])

EVENT_STREAM: Final = "text/event-stream"

_WORD: Final = re.compile("[A-Z][a-z]*")
# What stands for a part of a path.
_PLACE: Final = re.compile(r"\{[^}]*\}")
_DECLARATIONS: Final = "__operations__"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of the query or a header.

    Attributes:
        type: The type of the decoded value; msgspec must have a JSON Schema for it.
        may_be_blank: Whether an empty query parameter counts as absent, as forms send it. Applies
            only to optional parameters whose type has no empty value of its own.
    """

    name: str
    type: Any
    description: str
    place: Literal["query", "header"] = "query"
    is_required: bool = False
    may_be_blank: bool = True


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful response.

    Attributes:
        type: The body's type, for which msgspec has a JSON Schema; None for no body.
    """

    type: Any
    description: str
    media_type: str = "application/json"
    headers: tuple[str, ...] = ()


# An empty value counts as absent: front ends send one when no organization is selected.
_Organization = Annotated[str, Meta(pattern=ID_PATTERN.replace("{1,", "{0,"))]

TENANT: Final = (
    Parameter(
        "X-Organization-ID",
        _Organization,
        "The organization of the request. Required if the token holds more than one.",
        place="header",
    ),
    Parameter(
        "organization_id",
        _Organization,
        "Same as `X-Organization-ID`, for clients that cannot send headers.",
    ),
    Parameter(
        "merchantId",
        _Organization,
        "Same as `X-Organization-ID`, under the name used by front ends of the tenant feed.",
    ),
)
"""Parameters of every operation that belongs to a tenant."""

CREDENTIALS: Final = ("Authorization", "access_token", "ticket")
"""Query parameters that carry credentials of an EventSource, which cannot send headers."""

_ALWAYS_KNOWN: Final = frozenset(
    [*CREDENTIALS, *(parameter.name for parameter in TENANT if parameter.place == "query")]
)


class Operation(Route):
    """A route with one method that accepts only its declared query parameters.

    Args:
        method: The HTTP method; ``GET`` includes ``HEAD``.
        scope: The scope that a token needs; None if the operation is public.
        more_scopes: Further scopes that a token needs.
        summary: A short imperative sentence without a period.
        body: The type of the request body, for which msgspec has a JSON Schema; None for no body.
        ignores_query: Whether any query is accepted, as a page that people open needs it.
    """

    def __init__(  # noqa: PLR0913 - a declaration keeps all its parts in one place
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
        ignores_query: bool = False,
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
        self._ignores_query = ignores_query
        self._known = _ALWAYS_KNOWN.union(
            parameter.name for parameter in parameters if parameter.place == "query"
        )

    @property
    def group(self) -> str:
        """The tag in the API description, derived from the name of the handler's class."""
        name = type(getattr(self._handler, "__self__", self._handler)).__name__
        words = _WORD.findall(name.removesuffix("Routes"))
        return " ".join(words).capitalize()

    @property
    def is_of_tenant(self) -> bool:
        """Whether the operation reads or changes data of one tenant."""
        return self.scope not in {None, "operator"}

    @property
    def is_stream(self) -> bool:
        return any(answer.media_type == EVENT_STREAM for answer in self.answers.values())

    async def _serve(self, request: Request) -> Response:
        if self.is_stream and self.method == "GET":
            # It says in-band what is wrong with its request. Streams that open together share their
            # reads, and have limits of their own.
            end_turn(request.scope)
        elif not self._ignores_query:
            check_query(request, self._known)
        return await self._handler(request)


class _Declaration(TypedDict, total=False):
    scope: Required[Scope | None]
    more_scopes: tuple[Scope, ...]
    answers: Required[Mapping[int, Answer]]
    problems: tuple[int, ...]
    body: Any
    is_body_required: bool
    parameters: tuple[Parameter, ...]
    ignores_query: bool


def operation(
    method: str, path: str, *, summary: str = "", **declaration: Unpack[_Declaration]
) -> Callable[[_Method], _Method]:
    """Declare that a method of a routes class serves an operation.

    Args:
        summary: The summary; by default the first line of the method's docstring.
    """

    def declare(handler: _Method) -> _Method:
        first_line = (handler.__doc__ or "").partition("\n")[0].removesuffix(".")
        declared = {"method": method, "path": path, "summary": summary or first_line, **declaration}
        # Decorators apply from the bottom up; operations are listed from the top down.
        setattr(handler, _DECLARATIONS, [declared, *getattr(handler, _DECLARATIONS, [])])
        return handler

    return declare


def collect_operations(*routes: object) -> list[Operation]:
    """Return the operations that objects declare with ``operation``, in order of declaration."""
    return [
        Operation(handler=getattr(group, name), **declaration)
        for group in routes
        for name, member in vars(type(group)).items()
        for declaration in getattr(member, _DECLARATIONS, ())
    ]


def stream_requests(routes: Iterable[BaseRoute]) -> re.Pattern[bytes]:
    """Return the pattern of request lines, from their beginning, of the streams among routes.

    A proxy may have put a prefix before the path.
    """
    streams = [each for each in routes if isinstance(each, Operation) and each.is_stream]
    lines = {f"{each.method} \\S*?{_PLACE.sub('[^/? ]+', each.path)}" for each in streams}
    return re.compile(f"(?:{'|'.join(sorted(lines))})[? ]".encode())


def matching_route(scope: Mapping[str, Any]) -> BaseRoute | None:
    """Return the route that will serve a request; None if there is none."""
    for route in scope["app"].routes:
        if route.matches(scope)[0] is Match.FULL:
            found: BaseRoute = route
            return found
    return None
