"""Routes of the dashboard: one page, its assets, and the entry points of the API.

The page chooses what it shows by the fragment of its URL, so it needs one path only, works under
any path of a proxy, and hides no other route.
"""

from functools import cached_property
from importlib.metadata import version
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from tailrace_api.web.docs.docs_page import CONTENT_SECURITY_POLICY as DOCS_POLICY
from tailrace_api.web.docs.docs_page import index_page
from tailrace_api.web.json_response import json_response
from tailrace_api.web.operation import Answer, Parameter, operation
from tailrace_api.web.problems import RefusedError
from tailrace_api.web.site import CONTENT_SECURITY_POLICY, File, Site, find_site

IF_NONE_MATCH: Final = Parameter(
    "If-None-Match",
    str,
    "The ETag of the client's copy; a current copy is not sent again.",
    place="header",
)
NOT_MODIFIED: Final = Answer(None, "The client's copy is current.", headers=("ETag",))

_FOR_EVER: Final = "public, max-age=31536000, immutable"


class Index(msgspec.Struct):
    """The entry points of the API.

    Attributes:
        version: The version of the API's package.
        docs: The description as a page.
        openapi: The description in OpenAPI.
        api: The path under which all operations are.
    """

    version: str
    docs: str = "/docs"
    openapi: str = "/openapi.json"
    api: str = "/api/v1"


class DashboardRoutes:
    """The routes that serve the dashboard."""

    @operation(
        "GET",
        "/",
        scope=None,
        answers={
            200: Answer(
                Index, "The entry points, as JSON; for browsers the dashboard.", headers=("ETag",)
            ),
            304: NOT_MODIFIED,
        },
        parameters=(IF_NONE_MATCH,),
        ignores_query=True,
    )
    async def index(self, request: Request) -> Response:
        """Return the entry points of the API; a browser gets the dashboard."""
        if "text/html" not in request.headers.get("accept", ""):
            return json_response(Index(version("tailrace-api")))
        if self._site is None:
            page = index_page(version("tailrace-api")).encode()
            headers = {"content-security-policy": DOCS_POLICY, "cache-control": "no-cache"}
            return Response(page, headers={**headers, "content-type": "text/html; charset=utf-8"})
        return _answer(
            request,
            self._site.page,
            {"cache-control": "no-cache", "content-security-policy": CONTENT_SECURITY_POLICY},
            "accept, accept-encoding",
        )

    @operation(
        "GET",
        "/assets/{asset}",
        scope=None,
        answers={
            200: Answer(Any, "The asset.", "application/octet-stream", headers=("ETag",)),
            304: NOT_MODIFIED,
        },
        problems=(404,),
        parameters=(IF_NONE_MATCH,),
        ignores_query=True,
    )
    async def asset(self, request: Request) -> Response:
        """Return a script, a style sheet or an image of the dashboard."""
        name = request.path_params["asset"]
        file = self._site.assets.get(name) if self._site else None
        if file is None:
            raise RefusedError(404, f"the dashboard has no asset {name[:80]!r}; reload its page")
        return _answer(request, file, {"cache-control": _FOR_EVER}, "accept-encoding")

    # Read on first use: few processes ever serve it, and a start should be quick.
    @cached_property
    def _site(self) -> Site | None:
        return find_site()


def is_current(request: Request, etag: str) -> bool:
    """Return whether the client's copy has an ETag."""
    cached = request.headers.get("if-none-match", "").split(",")
    return any(tag.strip().removeprefix("W/") in {etag, "*"} for tag in cached)


def _answer(request: Request, file: File, headers: dict[str, str], vary: str) -> Response:
    headers = {**headers, "etag": file.etag, "vary": vary}
    if is_current(request, file.etag):
        return Response(status_code=304, headers=headers)
    coding = file.best_for(request.headers.get("accept-encoding", ""))
    if coding != "identity":
        headers["content-encoding"] = coding
    return Response(file.bodies[coding], headers={**headers, "content-type": file.media_type})
