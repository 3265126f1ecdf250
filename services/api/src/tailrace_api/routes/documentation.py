"""Routes of the API description, as OpenAPI and as an HTML page."""

import hashlib
from collections.abc import Sequence
from functools import cached_property
from importlib.metadata import version
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from tailrace_api.routes.dashboard import IF_NONE_MATCH, NOT_MODIFIED, is_current
from tailrace_api.web.docs.docs_page import CONTENT_SECURITY_POLICY, docs_page
from tailrace_api.web.docs.openapi import openapi
from tailrace_api.web.operation import Answer, Operation, collect_operations, operation
from tailrace_shared.settings import ApiSettings


class _Page:
    """A response that stays the same for the life of the process."""

    def __init__(self, body: bytes, media_type: str, **headers: str) -> None:
        self._body = body
        self._headers = {
            "content-type": media_type,
            "cache-control": "no-cache",
            "etag": f'"{hashlib.sha256(body).hexdigest()[:32]}"',
            **headers,
        }

    def answer(self, request: Request) -> Response:
        """Return the page, or 304 if the client's copy is current."""
        if is_current(request, self._headers["etag"]):
            return Response(status_code=304, headers=self._headers)
        return Response(self._body, headers=self._headers)


class DocumentationRoutes:
    """The routes that describe all operations: their own, and the given other ones."""

    def __init__(self, settings: ApiSettings, operations: Sequence[Operation]) -> None:
        self._needs_token = settings.auth != "none"
        self._operations = operations

    @operation(
        "GET",
        "/openapi.json",
        scope=None,
        answers={
            200: Answer(dict[str, Any], "The description.", headers=("ETag",)),
            304: NOT_MODIFIED,
        },
        parameters=(IF_NONE_MATCH,),
    )
    async def description(self, request: Request) -> Response:
        """Return the API description in OpenAPI 3.1."""
        return self._json.answer(request)

    @operation(
        "GET",
        "/docs",
        scope=None,
        answers={200: Answer(str, "The page.", "text/html", headers=("ETag",)), 304: NOT_MODIFIED},
        parameters=(IF_NONE_MATCH,),
    )
    async def page(self, request: Request) -> Response:
        """Return the API description as a page."""
        return self._html.answer(request)

    # Built on first use: few processes ever serve them, and a start should be quick.

    @cached_property
    def _description(self) -> dict[str, Any]:
        operations = [*self._operations, *collect_operations(self)]
        return openapi(operations, version("tailrace-api"), needs_token=self._needs_token)

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
