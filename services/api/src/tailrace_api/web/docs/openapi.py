"""The API description in OpenAPI 3.1, built from the declared operations. Pure.

There is no second source: the description repeats what the operations declare, and its schemas are
those of the types that msgspec decodes and encodes.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from tailrace_api.web import problems
from tailrace_api.web.operation import (
    CREDENTIALS,
    EVENT_STREAM,
    TENANT,
    Answer,
    Operation,
    Parameter,
)
from tailrace_api.web.problems import ProblemDocument
from tailrace_shared.ids import ID_PATTERN
from tailrace_shared.workflow.schemas.attribute_docs import described

VERSION: Final = "3.1.0"

_REFERENCE: Final = "#/components/schemas/{name}"
_JSON: Final = "application/json"
_PLACEHOLDER: Final = re.compile(r"\{(\w+)(?::\w+)?\}")
_PREFIX: Final = re.compile(r"^/(?:api/v1/|api/|ui-api/)?")

_ID: Final = Annotated[str, Meta(pattern=ID_PATTERN)]
_PROCEDURE: Final = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$", max_length=128)
]
# Path parameters that are not plain ids.
_PATH_TYPES: Final[Mapping[str, tuple[Any, str]]] = {
    "procedure": (_PROCEDURE, "The name of the trigger: ids joined by dots."),
    "asset": (str, "The name of the file."),
    "letter_id": (Annotated[int, Meta(ge=1, le=2**63 - 1)], "The number of the dead letter."),
    "step_id": (
        Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}(\[[0-9]+\])?$")],
        "The id of the node; for an item of a map followed by its index in brackets.",
    ),
}

_PROBLEMS: Final[Mapping[int, str]] = {
    400: "A header, the path, the query or the body is malformed.",
    401: "The token is missing or not valid.",
    403: "The token lacks a scope or the organization, or a page of another site sent the request.",
    410: "The beginning of the execution has expired.",
    404: "The resource does not exist in this organization.",
    408: "The body did not arrive in time.",
    409: "The state of the execution does not allow this.",
    413: "The request body, or the requested output, is too large.",
    414: "The URL is too long.",
    415: "The content type of the body is not JSON.",
    421: "The host name is not allowed.",
    422: "The body does not match what the operation expects, or its idempotency key belongs to "
    "a different request.",
    429: "The organization has reached its limit of run starts per minute.",
    431: "There are too many headers, or they are too large.",
    500: "Internal error; see the log of the API.",
    503: "NATS or the token issuer is unavailable; retry the request.",
}
_HEADERS: Final[Mapping[str, str]] = {
    "ETag": "The version of the response.",
    "Location": "The path of the created resource.",
    "Retry-After": "The seconds to wait before a retry.",
    "WWW-Authenticate": "The authentication challenge.",
}
_PROBLEM_HEADERS: Final[Mapping[int, tuple[str, ...]]] = {
    401: ("WWW-Authenticate",),
    429: ("Retry-After",),
    503: ("Retry-After",),
}
_ANY_REQUEST: Final = (400, 414, 421, 431, 500)
_WITH_TOKEN: Final = (401, 403)
_WITH_BODY: Final = (403, 408, 413, 415, 422)

_SCHEMES: Final[Mapping[str, Mapping[str, Any]]] = {
    "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
    **{
        name: {"type": "apiKey", "in": "query", "name": name, "description": description}
        for name, description in zip(
            CREDENTIALS,
            (
                "`Bearer` and the token, for an EventSource, which cannot send headers.",
                "The token, for an EventSource, which cannot send headers.",
                "A ticket for one stream, which keeps tokens out of URLs.",
            ),
            strict=True,
        )
    },
}


class StreamBlock(msgspec.Struct, omit_defaults=True):
    """A block of an event stream. Comments between blocks are keepalives.

    Attributes:
        data: The payload, usually JSON. A block without data only updates the client's last id.
        event: The event type; ``message`` by default.
        id: The id to send as ``Last-Event-ID`` to resume after this block.
        retry: The milliseconds to wait before reconnecting.
    """

    data: str = ""
    event: str = "message"
    id: str = ""
    retry: int | msgspec.UnsetType = msgspec.UNSET


def openapi(
    operations: Iterable[Operation], version: str, *, needs_token: bool = True
) -> dict[str, Any]:
    """Return the description of operations.

    Args:
        needs_token: Whether authentication is on.
    """
    return _Description(list(operations), needs_token=needs_token).document(version)


class _Description:
    def __init__(self, operations: Sequence[Operation], *, needs_token: bool) -> None:
        self._operations = operations
        self._needs_token = needs_token
        types = [ProblemDocument, StreamBlock, *_types(operations)]
        schemas, components = msgspec.json.schema_components(types, ref_template=_REFERENCE)
        self._components = {name: described(schema) for name, schema in components.items()}
        self._schemas = {repr(kind): schema for kind, schema in zip(types, schemas, strict=True)}

    def document(self, version: str) -> dict[str, Any]:
        paths: dict[str, dict[str, Any]] = {}
        for operation in self._operations:
            path = _PLACEHOLDER.sub(r"{\1}", operation.path)
            paths.setdefault(path, {})[operation.method.lower()] = self._operation(operation)
        return {
            "openapi": VERSION,
            "info": {
                "title": "Tailrace",
                "version": version,
                "description": "Runs workflows and streams every step. Errors are problem "
                "documents (RFC 9457) that point to the place in the request.",
            },
            "tags": [
                {"name": tag}
                for tag in dict.fromkeys(operation.group for operation in self._operations)
            ],
            "paths": paths,
            "components": {
                "schemas": self._components,
                "responses": {_problem_name(status): self._problem(status) for status in _PROBLEMS},
                "parameters": {each.name: self._parameter(each) for each in TENANT},
                "securitySchemes": _SCHEMES,
            },
        }

    def _operation(self, operation: Operation) -> dict[str, Any]:
        described: dict[str, Any] = {
            "operationId": operation_id(operation),
            "tags": [operation.group],
            "summary": operation.summary,
            "parameters": self._parameters(operation),
            "responses": self._responses(operation),
            "security": self._security(operation),
        }
        if operation.scopes:
            described["description"] = _needs(operation)
        if operation.body is not None:
            described["requestBody"] = {
                "required": operation.is_body_required,
                "content": {_JSON: {"schema": self._schema(operation.body)}},
            }
        return described

    def _parameters(self, operation: Operation) -> list[dict[str, Any]]:
        tenant = TENANT if operation.is_of_tenant else ()
        named = {parameter.name for parameter in operation.parameters}
        return [
            *(self._path_parameter(name) for name in _PLACEHOLDER.findall(operation.path)),
            *map(self._parameter, operation.parameters),
            *(
                {"$ref": f"#/components/parameters/{each.name}"}
                for each in tenant
                if each.name not in named
            ),
        ]

    def _path_parameter(self, name: str) -> dict[str, Any]:
        kind, description = _path_type(name)
        return {
            "name": name,
            "in": "path",
            "required": True,
            "description": description,
            "schema": self._schema(kind),
        }

    def _parameter(self, parameter: Parameter) -> dict[str, Any]:
        return {
            "name": parameter.name,
            "in": parameter.place,
            "required": parameter.is_required,
            "description": parameter.description,
            "schema": self._parameter_schema(parameter),
        }

    def _parameter_schema(self, parameter: Parameter) -> dict[str, Any]:
        schema = self._schema(parameter.type)
        is_optional = parameter.place == "query" and not parameter.is_required
        if is_optional and parameter.may_be_blank and not _has_empty(parameter.type):
            return {"anyOf": [schema, {"const": ""}]}
        return schema

    def _responses(self, operation: Operation) -> dict[str, Any]:
        answers = {str(status): self._answer(each) for status, each in operation.answers.items()}
        refusals = {
            str(status): {"$ref": f"#/components/responses/{_problem_name(status)}"}
            for status in _refusals(operation)
            if str(status) not in answers
        }
        return dict(sorted({**answers, **refusals}.items()))

    def _answer(self, answer: Answer) -> dict[str, Any]:
        described: dict[str, Any] = {"description": answer.description}
        if answer.headers:
            described["headers"] = _headers(answer.headers)
        if answer.type is not None:
            kind = StreamBlock if answer.media_type == EVENT_STREAM else answer.type
            described["content"] = {answer.media_type: {"schema": self._schema(kind)}}
        return described

    def _problem(self, status: int) -> dict[str, Any]:
        described: dict[str, Any] = {
            "description": _PROBLEMS[status],
            "content": {problems.CONTENT_TYPE: {"schema": self._schema(ProblemDocument)}},
        }
        if headers := _PROBLEM_HEADERS.get(status):
            described["headers"] = _headers(headers)
        return described

    def _security(self, operation: Operation) -> list[dict[str, Any]]:
        if operation.scope is None:
            return []
        ways = ["bearer", *CREDENTIALS]
        if not (operation.is_stream and operation.method == "GET"):
            ways = [way for way in ways if way != "ticket"]
        # An empty requirement makes authentication optional.
        open_to_all: list[dict[str, Any]] = [] if self._needs_token else [{}]
        return [*open_to_all, *({way: [*operation.scopes]} for way in ways)]

    def _schema(self, kind: Any) -> dict[str, Any]:
        return self._schemas[repr(kind)]


def operation_id(operation: Operation) -> str:
    path = _PREFIX.sub("", operation.path)
    words = _PLACEHOLDER.sub(r"by_\1", path).replace(".", "_").replace("-", "_").split("/")
    return "_".join([operation.method.lower(), *filter(None, words)])


def _types(operations: Iterable[Operation]) -> list[Any]:
    kinds: dict[str, Any] = {repr(each.type): each.type for each in TENANT}
    for operation in operations:
        for kind in _types_of(operation):
            kinds.setdefault(repr(kind), kind)
    return list(kinds.values())


def _has_empty(kind: Any) -> bool:
    try:
        msgspec.convert("", kind, strict=False)
    except msgspec.ValidationError:
        return False
    return True


def _types_of(operation: Operation) -> Iterable[Any]:
    yield from (_path_type(name)[0] for name in _PLACEHOLDER.findall(operation.path))
    yield from (parameter.type for parameter in operation.parameters)
    yield from (each.type for each in operation.answers.values() if each.type is not None)
    if operation.body is not None:
        yield operation.body


def _needs(operation: Operation) -> str:
    names = " and ".join(f"`{scope}`" for scope in operation.scopes)
    return f"Needs the scope{'s' * (len(operation.scopes) > 1)} {names}."


def _path_type(name: str) -> tuple[Any, str]:
    noun = name.removesuffix("_id").replace("_", " ")
    return _PATH_TYPES.get(name, (_ID, f"The id of the {noun}."))


def _refusals(operation: Operation) -> set[int]:
    refusals = {*_ANY_REQUEST, *operation.problems}
    if operation.scope is not None:
        refusals |= {*_WITH_TOKEN, 503}
    if operation.body is not None:
        refusals |= {*_WITH_BODY}
    return refusals


def _headers(names: Iterable[str]) -> dict[str, Any]:
    return {name: {"description": _HEADERS[name], "schema": {"type": "string"}} for name in names}


def _problem_name(status: int) -> str:
    return f"Problem{status}"
