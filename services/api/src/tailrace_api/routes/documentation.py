"""The API's description: for programs in OpenAPI, for people as a page."""

import hashlib
from collections.abc import Sequence
from functools import cached_property
from importlib.metadata import version
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from tailrace_api.web.docs.docs_page import CONTENT_SECURITY_POLICY, docs_page
from tailrace_api.web.openapi import openapi
from tailrace_api.web.operation import Answer, Operation, Parameter
from tailrace_shared.settings import ApiSettings

_IF_NONE_MATCH: Final = Parameter(
    "If-None-Match",
    str,
    "The ETag of what the client has; it is not sent again.",
    place="header",
)
_SAME: Final = Answer(None, "It is what the client has.", headers=("ETag",))


class _Page:
    """An answer that is the same as long as the process lives."""

    def __init__(self, body: bytes, media_type: str, **headers: str) -> None:
        self._body = body
        self._headers = {
            "content-type": media_type,
            "cache-control": "no-cache",
            "etag": f'"{hashlib.sha256(body).hexdigest()[:32]}"',
            **headers,
        }

    def answer(self, request: Request) -> Response:
        """Answer with the page, unless the client has it."""
        known = request.headers.get("if-none-match", "").split(",")
        etag = self._headers["etag"]
        if any(tag.strip().removeprefix("W/") in {etag, "*"} for tag in known):
            return Response(status_code=304, headers=self._headers)
        return Response(self._body, headers=self._headers)


class DocumentationRoutes:
    """The routes that describe all others, and themselves.

    Args:
        settings: those of the API.
        operations: all others.
    """

    def __init__(self, settings: ApiSettings, operations: Sequence[Operation]) -> None:
        self._needs_token = settings.auth != "none"
        self._operations = operations

    def routes(self) -> list[Operation]:
        """Return the routing table."""
        return [
            Operation(
                "GET",
                "/openapi.json",
                self.description,
                scope=None,
                summary="Describe the API in OpenAPI 3.1",
                answers={
                    200: Answer(dict[str, Any], "Its description.", headers=("ETag",)),
                    304: _SAME,
                },
                parameters=(_IF_NONE_MATCH,),
            ),
            Operation(
                "GET",
                "/docs",
                self.page,
                scope=None,
                summary="Describe the API on a page",
                answers={
                    200: Answer(str, "The page.", "text/html", headers=("ETag",)),
                    304: _SAME,
                },
                parameters=(_IF_NONE_MATCH,),
            ),
        ]

    async def description(self, request: Request) -> Response:
        """Return the description."""
        return self._json.answer(request)

    async def page(self, request: Request) -> Response:
        """Return the page."""
        return self._html.answer(request)

    @cached_property
    def _description(self) -> dict[str, Any]:
        operations = [*self._operations, *self.routes()]
        return openapi(operations, version("tailrace-api"), needs_token=self._needs_token)

    # Built when they are asked for: most processes never are, and starts should be quick.

    @cached_property
    def _json(self) -> _Page:
        return _Page(msgspec.json.encode(self._description), "application/json")

    @cached_property
    def _html(self) -> _Page:
        return _Page(
            docs_page(self._description).encode(),
            "text/html; charset=utf-8",
            **{"content-security-policy": CONTENT_SECURITY_POLICY},
        )
