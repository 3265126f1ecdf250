"""Chunk framing comes off as it went on."""

from hypothesis import given
from hypothesis import strategies as st

from tailrace_api.sse.chunk import LAST_CHUNK, bodies, chunk


@given(st.lists(st.binary(max_size=300)))
def test_what_was_framed_can_be_unframed(pieces: list[bytes]) -> None:
    """Empty pieces are no chunks: an empty chunk would end the response."""
    wire = b"".join(map(chunk, pieces))
    assert list(bodies(wire)) == [piece for piece in pieces if piece]
    assert LAST_CHUNK not in map(chunk, pieces)


def test_a_chunk_is_what_http_says() -> None:
    """Its size in hexadecimal, a line end, the bytes, a line end."""
    assert chunk(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"
    assert LAST_CHUNK == b"0\r\n\r\n"
