"""Bodies are decoded strictly: JSON that parsers understand differently is refused."""

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace_api.web.json_body import MAX_DEPTH, MAX_PATH_CHARS, decode, refuse_unknown
from tailrace_api.web.problems import RefusedError
from tailrace_shared.workflow.problem_report import Problem

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=20,
)


@given(_JSON)
def test_json_is_decoded_unchanged(value: Any) -> None:
    """Output of a standard encoder round-trips."""
    document = decode(json.dumps(value, ensure_ascii=False).encode(errors="surrogatepass"))
    assert document.value == value
    assert document.duplicates == []


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"a": 1,}', "line 1, column"),
        (b"{\n  a: 1}", "line 2, column 3"),
        (b"", "line 1, column 1"),
        (b'{"a": NaN}', "NaN is not JSON"),
        (b"[Infinity]", "Infinity is not JSON"),
        (b"[1e999]", "too large"),
        (b"[18446744073709551616]", "does not fit in 64 bits"),
        (b"[" + b"9" * 5000 + b"]", "does not fit in 64 bits"),
        (b'"\xff"', "not UTF-8"),
        (b'["\\ud800"]', "surrogate"),
        (b"[" * 101 + b"]" * 101, "deeper than 100"),
        (b"[" * 100_000, "deeper than 100"),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, "deeper than 100"),
    ],
)
def test_malformed_json_is_refused_with_its_position(body: bytes, said: str) -> None:
    """400 with what and where."""
    with pytest.raises(RefusedError, match=said) as refusal:
        decode(body)
    assert refusal.value.status == 400


_KEYS = st.sampled_from(['"a"', '"b:"', r'"\":"', r'"\\"', '"{"'])
_TEXTS = st.recursive(
    st.sampled_from(["1", "null", '":"', "[]", "{ }", r'"\":"']),
    lambda inner: (
        st.lists(inner, max_size=4).map(lambda items: f"[{', '.join(items)}]")
        | st.lists(st.tuples(_KEYS, inner).map(" : ".join), max_size=4).map(
            lambda members: f"{{{','.join(members)}}}"
        )
    ),
    max_leaves=12,
)


@given(_TEXTS)
def test_repeated_keys_are_found_with_any_characters_in_strings(text: str) -> None:
    """And only those."""
    repeating = []

    def collect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        repeating.extend(pairs if len(dict(pairs)) < len(pairs) else [])
        return dict(pairs)

    wanted = json.loads(text, object_pairs_hook=collect)
    document = decode(text.encode())
    assert document.value == wanted
    assert bool(document.duplicates) == bool(repeating)


@given(st.text(alphabet='{}[]",:\\ 01a-.', max_size=12))
def test_a_body_is_refused_if_and_only_if_it_is_not_json(text: str) -> None:
    try:
        wanted = json.loads(text)
    except ValueError:
        with pytest.raises(RefusedError):
            decode(text.encode())
    else:
        assert decode(text.encode()).value == wanted


def test_depth_up_to_the_limit_is_accepted() -> None:
    """The limit itself is allowed."""
    assert decode(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH).value


def test_repeated_keys_are_found_at_any_depth() -> None:
    """Each is reported at the place of its object."""
    document = decode(b'{"a":1,"b":[{"x/y":1,"x/y":2}],"a":{"c":1,"c":2},"a":{"d":0}}')
    assert sorted(document.duplicates, key=lambda problem: problem.pointer) == [
        Problem("/a", "the key 'a' is repeated"),
        Problem("/a", "the key 'a' is repeated"),
        Problem("/b/0/x~1y", "the key 'x/y' is repeated"),
    ]


def test_an_unknown_field_gets_a_suggestion() -> None:
    """A typo must not silently drop a field."""
    with pytest.raises(RefusedError) as refusal:
        refuse_unknown({"inptu": {}, "input": {}, "a/b": 1}, "input")
    assert refusal.value.errors == [
        Problem("/inptu", "unknown field 'inptu', did you mean 'input'?"),
        Problem("/a~1b", "unknown field 'a/b'"),
    ]


def test_reported_unknown_fields_are_limited() -> None:
    """A body full of them costs no more than one with a few."""
    with pytest.raises(RefusedError) as refusal:
        refuse_unknown({f"field{number}": 1 for number in range(1000)}, "input")
    assert len(refusal.value.errors) == 20


def test_repeated_keys_are_found_in_little_memory() -> None:
    """However many values are below a long key: only reported pointers are built."""
    members = ",".join(map(str, range(10_000)))
    body = f'{{"{"k" * MAX_PATH_CHARS}": [{members}], "a": 1, "a": 2}}'.encode()
    tracemalloc.start()
    try:
        document = decode(body)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert document.duplicates == [Problem("/a", "the key 'a' is repeated")]
    assert most < 50 * len(body)


@pytest.mark.parametrize(
    "body",
    [
        b"{" + b",".join([b'"a": {"b": 1, "b": 2}'] * 1000) + b"}",
        b"[" + b",".join([b'{"b": 1, "b": 2}'] * 1000) + b"]",
    ],
)
def test_reported_repeated_keys_are_limited(body: bytes) -> None:
    """The response stays small."""
    assert 0 < len(decode(body).duplicates) <= 40


@pytest.mark.parametrize("keys", [1, 2, 50])
def test_the_length_of_key_paths_is_limited(keys: int) -> None:
    """Errors and marks repeat the path once for each value."""
    length = MAX_PATH_CHARS // keys
    fits = f'{{"{"k" * length}":' * keys + "[1]" + "}" * keys
    assert decode(fits.encode()).duplicates == []
    with pytest.raises(RefusedError, match=f"more than {MAX_PATH_CHARS} characters"):
        decode(fits.replace("[1]", f'{{"{"k" * 50}": 1}}').encode())
