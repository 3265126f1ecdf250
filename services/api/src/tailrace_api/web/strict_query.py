"""Query strings are read strictly: a parameter that would change nothing is refused.

A typing error in ``limit`` or ``status`` would otherwise be a wrong answer that looks right; of a
parameter that is given twice one part of a system may read the first and another the last.
"""

from collections.abc import Collection
from typing import Final

from starlette.requests import Request

from tailrace_api.web.problems import RefusedError
from tailrace_shared.workflow.problem_report import nearest

_LONGEST_SHOWN: Final = 80


def check_query(request: Request, known: Collection[str]) -> None:
    """Check that a query has no parameters but those known, each once.

    Raises:
        RefusedError: naming the first parameter that is unknown, with the known one that it is
            most like, or repeated.
    """
    if not request.scope["query_string"]:
        return
    seen: set[str] = set()
    for name, _ in request.query_params.multi_items():
        shown = name[:_LONGEST_SHOWN]
        if name not in known:
            raise RefusedError(
                400, f"unknown query parameter {shown!r}{nearest(shown, sorted(known))}"
            )
        if name in seen:
            raise RefusedError(
                400, f"the query parameter {shown!r} is given more than once; send it once"
            )
        seen.add(name)
