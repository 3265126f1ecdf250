"""Encoded blocks parse back to the original events, for any input."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.sse.client import SseEvent, SseParser
from tailrace_api.sse import frame

_TRICKY = st.text(st.sampled_from("\r\n\0: ab\ufeffdataeventid\u2028é😀"), max_size=30)
_TEXT = st.one_of(st.text(max_size=30), _TRICKY)
# The parser keeps positions apart from events.
_NAME = _TEXT.filter(lambda text: _field(text) != "stream:position")


def _field(text: str) -> str:
    """Return the text as a field can carry it: no line ends, NUL or lone surrogates."""
    kept = text.replace("\r", "").replace("\n", "").replace("\0", "")
    return kept.encode(errors="replace").decode()


def _data(text: str) -> str:
    """Return the text as data can carry it: the format has one line end instead of three."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


@given(
    st.lists(
        st.tuples(_TEXT.map(lambda t: t.encode(errors="replace").decode()), _NAME, _TEXT),
        max_size=5,
    ),
    st.integers(1, 7),
)
def test_blocks_parse_back_to_their_events_however_they_are_cut(
    events: list[tuple[str, str, str]], size: int
) -> None:
    """Data, name and id come back, and no value can add a field or an event of its own."""
    wire = b"".join(
        frame.event(data.encode(), name=name, event_id=event_id) for data, name, event_id in events
    )
    parser = SseParser(_begun=True)
    parsed = [
        event
        for start in range(0, len(wire), size)
        for event in parser.feed(wire[start : start + size])
    ]
    last_id = ""
    expected = []
    for data, name, event_id in events:
        own_id = bool(event_id)
        last_id = _field(event_id) if own_id else last_id
        expected.append(SseEvent(last_id, own_id, _field(name) or "message", _data(data)))
    assert parsed == expected


@given(_TEXT)
def test_comments_and_retries_are_lines_of_the_next_block(text: str) -> None:
    """A block of them alone would reach the users of some libraries as an event without data."""
    parser = SseParser(_begun=True)
    wire = frame.comment(text) + frame.retry(7)
    assert not wire.endswith(b"\n\n")
    (event,) = parser.feed(wire + frame.event(b"d", event_id="a-1-0"))
    assert (event.data, parser.comments, parser.retry) == ("d", [_field(text)], 7)


def test_a_position_is_an_event_with_a_name_of_its_own() -> None:
    """Its data is JSON, so code that parses every event does not fail."""
    assert frame.position("a-1-0") == b"event: stream:position\ndata: {}\nid: a-1-0\n\n"


@pytest.mark.parametrize(("given_ms", "expected_ms"), [(2500, 2500), (0, 0), (-1, 0)])
def test_retry_is_a_number_that_clients_accept(given_ms: int, expected_ms: int) -> None:
    """A delay is digits only, or clients ignore it."""
    parser = SseParser()
    parser.feed(frame.retry(given_ms))
    assert parser.retry == expected_ms


def test_compact_json_is_written_unchanged() -> None:
    """A compact JSON slice is one data line, byte for byte."""
    assert frame.event(b'{"a":" \\n"}', name="x", event_id="e-1-0") == (
        b'event: x\ndata: {"a":" \\n"}\nid: e-1-0\n\n'
    )


@given(st.lists(st.tuples(_TEXT, _NAME, _TEXT), min_size=1, max_size=4), st.integers(1, 9))
def test_streams_read_from_their_first_byte_on(
    events: list[tuple[str, str, str]], size: int
) -> None:
    """A client takes a byte order mark away from the beginning; ours is never a value's."""
    blocks = [
        frame.event(data.encode(errors="replace"), name=name, event_id=event_id)
        for data, name, event_id in events
    ]
    wire = frame.retry(2000) + b"".join(blocks)
    parser = SseParser()
    parsed = [
        event
        for start in range(0, len(wire), size)
        for event in parser.feed(wire[start : start + size])
    ]
    assert parser.retry == 2000
    assert [event.data for event in parsed] == [
        _data(data.encode(errors="replace").decode()) for data, _, _ in events
    ]


@pytest.mark.parametrize(
    "data",
    [
        "",
        " ",
        ":",
        "\n",
        "\r",
        "\r\n",
        "\n\n",
        " leading",
        "trailing ",
        "\ufeffmark",
        "a\rb\nc\r\nd",
    ],
)
def test_the_tricky_data_of_the_standard_comes_through(data: str) -> None:
    """Empty data is an event, too; a space after the colon is not taken from the value."""
    parser = SseParser()
    (event,) = parser.feed(frame.event(data.encode(), name="x", event_id="a-1-0"))
    assert event == SseEvent("a-1-0", True, "x", _data(data))


@pytest.mark.parametrize("event_id", ["a\0b", "a\rid: x", "a\n\ndata: x", " a", ":a", "\ufeffa"])
def test_an_id_cannot_break_out(event_id: str) -> None:
    """A NUL would make clients ignore it, a line end would be another field."""
    parser = SseParser()
    (event,) = parser.feed(frame.event(b"d", event_id=event_id) + frame.position("e-1-0"))
    assert (event.data, event.id) == ("d", _field(event_id))
    assert parser.positions == ["e-1-0"]
