"""Refuse unknown and repeated query parameters.

A misspelled ``limit`` or ``status`` would otherwise give a wrong result that looks right. Of a
repeated parameter, one part of a system may read the first value and another the last.
"""

from collections.abc import Collection
from typing import Final

from starlette.requests import Request

from tailrace_api.web.problems import RefusedError
from tailrace_shared.workflow.problem_report import nearest

_MAX_SHOWN_CHARS: Final = 80


def check_repeated(request: Request) -> None:
    """Check that a query has each parameter at most once.

    Raises:
        RefusedError: A parameter is repeated (400).
    """
    names = [name for name, _ in request.query_params.multi_items()]
    if len(set(names)) < len(names):
        name = next(name for name in names if names.count(name) > 1)[:_MAX_SHOWN_CHARS]
        raise RefusedError(400, f"the query parameter {name!r} is repeated; send it once")


def check_query(request: Request, known: Collection[str]) -> None:
    """Check that a query has only known parameters, each at most once.

    Raises:
        RefusedError: A parameter is unknown or repeated (400). The problem names the first one and
            suggests the most similar known parameter.
    """
    if not request.scope["query_string"]:
        return
    seen: set[str] = set()
    for name, _ in request.query_params.multi_items():
        shown = name[:_MAX_SHOWN_CHARS]
        if name not in known:
            raise RefusedError(
                400, f"unknown query parameter {shown!r}{nearest(shown, sorted(known))}"
            )
        if name in seen:
            raise RefusedError(400, f"the query parameter {shown!r} is repeated; send it once")
        seen.add(name)
