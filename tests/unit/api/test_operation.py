"""Operations declared by the decorator on handlers."""

from dataclasses import dataclass

import pytest
from starlette.requests import Request
from starlette.responses import Response

from tailrace_api.web.operation import (
    EVENT_STREAM,
    Answer,
    collect_operations,
    operation,
    stream_requests,
)


@dataclass(frozen=True, slots=True)
class LockGateRoutes:
    """Routes of a lock gate."""

    name: str

    @operation("GET", "/gates/{gate_id}", scope="executions:read", answers={}, summary="Show it")
    @operation("GET", "/gate", scope="executions:read", answers={})
    async def show(self, _request: Request) -> Response:
        """Show a gate.

        The rest of the docstring is not part of the summary.
        """
        return Response(self.name)

    async def undeclared(self, _request: Request) -> Response:
        """Serve no route."""
        return Response()

    @operation("GET", "/gates", scope=None, answers={200: Answer(str, "The gates.", EVENT_STREAM)})
    async def watch(self, _request: Request) -> Response:
        """Watch all gates."""
        return Response()


def test_operations_are_collected_in_order_of_declaration() -> None:
    """Stacked decorators declare several operations for one handler, listed from the top down."""
    found = collect_operations(LockGateRoutes("a"), LockGateRoutes("b"))
    assert [each.path for each in found[:3]] == ["/gates/{gate_id}", "/gate", "/gates"]
    assert len(found) == 6
    assert {each.group for each in found} == {"Lock gate"}


def test_the_summary_is_the_first_line_of_the_docstring() -> None:
    """A summary in the declaration overrides it."""
    summaries = [each.summary for each in collect_operations(LockGateRoutes("a"))]
    assert summaries == ["Show it", "Show a gate", "Watch all gates"]


def test_an_operation_knows_whether_it_streams_and_belongs_to_a_tenant() -> None:
    """The media type of its answers and its scope decide."""
    show, _, watch = collect_operations(LockGateRoutes("a"))
    assert (show.is_stream, show.is_of_tenant) == (False, True)
    assert (watch.is_stream, watch.is_of_tenant) == (True, False)


class LevelRoutes:
    """Routes of the levels of a lock gate."""

    @operation(
        "GET", "/gates/{gate_id}/levels", scope=None, answers={200: Answer(str, "", EVENT_STREAM)}
    )
    async def watch(self, _request: Request) -> Response:
        """Watch the levels of a gate."""
        return Response()


@pytest.mark.parametrize(
    ("line", "is_stream"),
    [
        (b"GET /gates HTTP/1.1", True),
        (b"GET /gates?since=1 HTTP/1.1", True),
        (b"GET /under/a/prefix/gates HTTP/1.1", True),
        (b"GET /gates/west/levels HTTP/1.1", True),
        (b"GET /gates/ HTTP/1.1", False),
        (b"GET /gates/west/levels/1 HTTP/1.1", False),
        (b"GET /gates/west HTTP/1.1", False),
        (b"POST /gates HTTP/1.1", False),
        (b"GET / HTTP/1.1\r\nReferer: /gates ", False),
    ],
)
def test_requests_of_streams_are_recognized_by_their_line(line: bytes, is_stream: bool) -> None:
    """Before they are parsed, and under the prefix of a proxy."""
    routes = collect_operations(LockGateRoutes("a"), LevelRoutes())
    assert bool(stream_requests(routes).match(line)) is is_stream
