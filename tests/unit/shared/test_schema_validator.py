"""The schema validator is bounded in time for any schema."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace_shared.workflow.schemas.formats import FORMATS
from tailrace_shared.workflow.schemas.input_schema import (
    compile_schema,
    schema_problems,
    violations,
)
from tailrace_shared.workflow.schemas.schema_validator import INLINE_SECONDS, MAX_SECONDS

BACKTRACKING = "^(a+)+$"
TEXT = "a" * 60 + "!"
DRAFT = "https://json-schema.org/draft/2020-12/schema"
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([0.0, 1.0, 1.5, "", "1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner),
    max_leaves=6,
)


def doubling(depth: int) -> dict[str, Any]:
    """Return a schema whose references double at each level."""
    twice = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n - 1}"}] * 2} for n in range(1, depth)}
    return {"$defs": {"d0": {"type": "string"}, **twice}, "$ref": f"#/$defs/d{depth - 1}"}


def checked(schema: Any, value: Any) -> list[str]:
    """Return the violations of a value, by a valid schema."""
    assert schema_problems(schema) == []
    return [each.detail for each in violations(compile_schema(schema), "input", value)]


@pytest.mark.parametrize(
    ("schema", "value", "is_good"),
    [
        ({"pattern": BACKTRACKING}, TEXT, False),
        ({"$schema": DRAFT, "items": {"$schema": DRAFT, "pattern": BACKTRACKING}}, [TEXT], False),
        ({"patternProperties": {BACKTRACKING: False}}, {TEXT: 1}, True),
        (
            {"patternProperties": {BACKTRACKING: True}, "additionalProperties": False},
            {"aaa": 1, TEXT: 1},
            False,
        ),
        ({"uniqueItems": True}, [{"n": number} for number in range(20_000)], True),
    ],
)
def test_a_check_takes_linear_time(schema: Any, value: Any, is_good: bool) -> None:
    """Backtracking patterns and pairwise comparison of items would take too long."""
    assert (checked(schema, value) == []) is is_good


def test_a_check_stops_at_its_time_limit() -> None:
    """The value is refused, because its validity is unknown."""
    schema = doubling(60)
    assert schema_problems(schema) == []
    found = violations(compile_schema(schema), "input", "text", INLINE_SECONDS)
    assert [each.detail for each in found] == ["the schema takes too long to check; simplify it"]
    assert INLINE_SECONDS < MAX_SECONDS
    assert checked(doubling(5), "text") == []


@pytest.mark.parametrize(
    ("schema", "place", "said"),
    [
        ({"pattern": "a(?=b)"}, ("pattern",), "look-arounds are not supported"),
        (
            {"properties": {"x": {"pattern": r"(a)\1"}}},
            ("properties", "x", "pattern"),
            "backreferences are not supported",
        ),
        (
            {"patternProperties": {"(?!a)": True}},
            ("patternProperties", "(?!a)"),
            "look-arounds are not supported",
        ),
        (
            {"patternProperties": {"a": True}, "allOf": [{"unevaluatedProperties": False}]},
            (),
            "cannot be used together",
        ),
    ],
)
def test_patterns_that_need_backtracking_are_refused(
    schema: Any, place: tuple[str, ...], said: str
) -> None:
    """They are reported with their position when the schema is stored."""
    ((at, detail),) = schema_problems(schema)
    assert at == place
    assert said in detail


@pytest.mark.parametrize(
    ("divisor", "number", "is_multiple"),
    [
        *((0.01, number, True) for number in (19.99, 4.02, 1.11, 0.07, 0, -0.07, 1e300, 10**40)),
        *((0.01, number, False) for number in (19.995, 0.001, 5e-324, 1e-300)),
        *((0.1, number, True) for number in (0.3, 1.1, 123456789.1)),
        *((3, number, True) for number in (9, 9.0, 3 * 10**30)),
        *((3, number, False) for number in (10**30, 9.5)),
        (1e-300, 1e300, True),
        (2.5, 7.5, True),
        (2.5, 7, False),
        (2, True, True),
        (2, "3", True),
    ],
)
def test_a_multiple_is_that_of_the_written_decimals(
    divisor: float, number: Any, is_multiple: bool
) -> None:
    """The numbers in JSON are decimals; their binary neighbours are no multiples."""
    assert (checked({"multipleOf": divisor}, number) == []) is is_multiple


@given(st.integers(-(10**12), 10**12), st.integers(0, 6))
def test_every_decimal_is_a_multiple_of_its_last_place(units: int, places: int) -> None:
    """For any number of places."""
    number, place = float(f"{units}e-{places}"), float(f"1e-{places}")
    assert checked({"multipleOf": place}, number) == []


GOOD = {
    "date-time": ["2024-01-15T10:30:00Z", "2024-01-15t10:30:00.123456789+02:00"],
    "date": ["2024-02-29"],
    "time": ["10:30:00Z", "23:59:60Z", "01:59:60+02:00", "10:30:00.5-08:00"],
    "duration": ["P1D", "PT90S", "P1Y2M3DT4H5M6S", "P2W", "PT1H30M"],
    "email": ["ada@example.com", "a.b+c@localhost", '"a b"@example.com', "a@[127.0.0.1]"],
    "hostname": ["example.com", "a-b.c", "localhost", "1.2.3.4", "xn--4gbwdl.xn--wgbh1c"],
    "ipv4": ["10.1.2.3"],
    "ipv6": ["::1", "2001:db8::1", "::ffff:1.2.3.4"],
    "uri": [
        "https://user@example.com:8080/a%20b?c=d#e",
        "urn:isbn:1",
        "mailto:a@b.c",
        "http://[::1]/",
        "file:///a",
    ],
    "uri-reference": ["/a/b", "", "../x?y#z", "//host/a", "https://example.com"],
    "iri": ["https://exämple.com/ß"],
    "iri-reference": ["/ä"],
    "uuid": ["2EB8AA08-AA98-11EA-B4AA-73B441D16380"],
    "json-pointer": ["", "/a~1b/0"],
    "relative-json-pointer": ["0", "1/a", "2#"],
    "regex": [r"^\p{Lu}\p{L}+$"],
}
BAD = {
    "date-time": [
        "tomorrow",
        "2024-01-15",
        "2024-01-15T10:30:00",
        "2024-13-15T10:30:00Z",
        "2024-01-15 10:30:00Z",
        "2024-02-30T10:30:00Z",
        "2024-01-15T24:00:00Z",
        "2024-01-15T10:30:00Z\n",
        "२०२४-01-15T10:30:00Z",
    ],
    "date": ["2023-02-29", "20240101", "2024-1-1"],
    "time": ["10:30:00", "10:30Z", "22:59:60Z", "10:30:00+24:00", "25:00:00Z"],
    "duration": ["90s", "P", "PT", "P1D2W", "PT1S2M", "1D", "P1YT"],
    "email": ["ada", "@example.com", "a@", "a b@c", ".a@b", "a@b@c", "a@-b"],
    "hostname": ["", "-a", "a-", "a..b", "a_b", "a" * 64, "a.", "ä.com", ".".join(["a" * 50] * 6)],
    "ipv4": ["10.1.2", "10.1.2.256", "010.1.2.3", "::1"],
    "ipv6": ["1.2.3.4", "::1%eth0", ":::"],
    "uri": [
        "example.com",
        "/a",
        "https://a b",
        "http://[::1",
        "https://ä.com",
        "://a",
        "a://%zz",
        "http://a:b:c",
        "http://a\\b",
    ],
    "uri-reference": ["a b", "1:2", "\\a", "%"],
    "iri": ["/ä", "http://a b"],
    "iri-reference": ["a b"],
    "uuid": ["2eb8aa08aa9811eab4aa73b441d16380", "x"],
    "json-pointer": ["a", "/~2", "#/a"],
    "relative-json-pointer": ["/a", "01", "-1"],
    "regex": ["(", "(?=a)"],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in GOOD.items() for value in values]
)
def test_a_format_accepts_its_values(name: str, value: str) -> None:
    """Those of the RFC that defines it."""
    assert checked({"format": name}, value) == []


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in BAD.items() for value in values]
)
def test_a_format_is_enforced(name: str, value: str) -> None:
    """Every format that a schema may have, on every machine."""
    assert len(checked({"format": name}, value)) == 1


def test_a_format_is_that_of_texts() -> None:
    """Other values are valid, as the specification says."""
    assert GOOD.keys() == BAD.keys() == FORMATS.keys()
    for name in FORMATS:
        assert checked({"format": name}, 5) == []


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("dat-time", "did you mean 'date-time'?"),
        ("idn-hostname", "did you mean 'hostname'?"),
        ("int64", "use a pattern instead"),
    ],
)
def test_a_format_that_is_not_enforced_is_refused(name: str, hint: str) -> None:
    """Instead of being ignored."""
    ((place, detail),) = schema_problems({"items": {"format": name}})
    assert place == ("items", "format")
    assert f"the format {name!r} is not enforced" in detail
    assert hint in detail


@given(st.sampled_from(sorted(FORMATS)), st.text(max_size=40))
def test_any_text_is_checked_for_any_format(name: str, value: str) -> None:
    """No value raises an error of another kind."""
    checked({"format": name}, value)


@pytest.mark.parametrize(
    ("schema", "value", "is_good"),
    [
        ({"pattern": r"^\p{L}+$"}, "Zoë", True),
        ({"pattern": r"^\p{L}+$"}, "Zoë1", False),
        ({"pattern": r"^\p{Lu}\p{Ll}*$"}, "Äpfel", True),
        ({"patternProperties": {r"^\p{L}": {"type": "integer"}}}, {"ä": "x"}, False),
    ],
)
def test_patterns_know_the_properties_of_unicode(schema: Any, value: Any, is_good: bool) -> None:
    """The metaschema's own check would use Python's patterns, which lack them."""
    assert (checked(schema, value) == []) is is_good


@given(st.lists(_JSON, max_size=5))
def test_unique_items_use_json_equality(items: list[Any]) -> None:
    """1 equals 1.0, but not true."""
    equal = any(_same(a, b) for index, a in enumerate(items) for b in items[:index])
    assert bool(checked({"uniqueItems": True}, items)) is equal


def _same(one: Any, other: Any) -> bool:
    match one, other:
        case (bool(), _) | (_, bool()):
            return one is other
        case dict(), dict():
            return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
        case list(), list():
            return len(one) == len(other) and all(map(_same, one, other))
        case _:
            return bool(one == other)
