"""The check of query strings."""

import pytest
from starlette.requests import Request

from tailrace_api.web.problems import RefusedError
from tailrace_api.web.query import ids_of
from tailrace_api.web.strict_query import check_query


def _request(query: str) -> Request:
    return Request(
        {
            "type": "http",
            "method": "GET",
            "path": "/",
            "headers": [],
            "query_string": query.encode(),
        }
    )


@pytest.mark.parametrize("query", ["", "limit=1", "limit=1&cursor=a", "cursor=", "&&limit=3"])
def test_known_parameters_pass(query: str) -> None:
    """Each once, in any order, empty ones included."""
    check_query(_request(query), {"limit", "cursor"})


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("limt=1", "unknown query parameter 'limt', did you mean 'limit'\\?"),
        ("limit=1&xyz", "unknown query parameter 'xyz'$"),
        ("xyz=", "unknown query parameter 'xyz'$"),
        ("LIMIT=1", "unknown query parameter 'LIMIT'"),
        ("limit=1&limit=1", "the query parameter 'limit' is repeated; send it once"),
        ("x" * 10_000, "unknown query parameter 'x{80}'$"),
    ],
)
def test_unknown_and_repeated_parameters_are_refused_by_name(query: str, said: str) -> None:
    """The problem suggests the most similar known parameter."""
    with pytest.raises(RefusedError, match=said) as refusal:
        check_query(_request(query), {"limit", "cursor"})
    assert refusal.value.status == 400


def test_ids_keep_their_order_without_duplicates() -> None:
    """Empty parts between commas are ignored."""
    assert ids_of(_request("ids=b,a,,b,c"), "ids", 10) == ["b", "a", "c"]
    assert ids_of(_request("ids="), "ids", 10) == []
    assert ids_of(_request(""), "ids", 10) == []


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("ids=a,b,c,d", "ids: 4 ids exceed the limit of 3; send several requests"),
        ("ids=a,b.c", "ids: 'b.c' is not an id"),
        ("ids=a,%3E", "ids: '>' is not an id"),
        ("ids=" + "," * 5000, "ids: 5001 ids exceed the limit of 3"),
        ("ids=" + "x" * 65, "ids: 'x{65}' is not an id"),
    ],
)
def test_lists_of_ids_are_limited_and_checked(query: str, said: str) -> None:
    """The problem names the parameter."""
    with pytest.raises(RefusedError, match=said) as refusal:
        ids_of(_request(query), "ids", 3)
    assert refusal.value.status == 400
