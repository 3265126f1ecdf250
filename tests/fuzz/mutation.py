"""Change known inputs at random, as a fuzzer does."""

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Final

_LONGEST: Final = 200_000
_PIECES: Final = (
    *(b"\0", b"\xff", b"\xed\xa0\x80", b"\r\n", b"\n", b"\t", b" ", b"\xc2\x85", b"\xef\xbb\xbf"),
    *(b"9" * 25, b"1e400", b"-0", b"NaN", b"1e-400", b"0x", b"\xd9\xa3", b"18446744073709551616"),
    *(b"[", b"]", b"{", b"}", b"(", b")", b'"', b"'", b"\\", b"\\u", b"\\ud800", b"${", b"$${"),
    *(
        b",",
        b":",
        b".",
        b"/",
        b"..",
        b"~",
        b"*",
        b"&a ",
        b"*a",
        b"!!int ",
        b"|",
        b"?",
        b"#",
        b"%00",
    ),
    *(b"&", b"=", b"%", b"+", b"-", b";", b"true", b"null", b'"$ref":"#"', b"(a+)+$", b"[[:"),
)
_MULTIPLIED: Final = (
    b"[",
    b"(",
    b"{",
    b"!",
    b"-",
    b"a",
    b"9",
    b'{"a":',
    b"[1,",
    b"x.",
    b"'",
    b"\n",
)


def mutated(seeds: Sequence[bytes], source: random.Random) -> bytes:
    """Return a random change of one of the seeds."""
    data = bytearray(source.choice(seeds))
    for _ in range(source.choice((1, 1, 1, 2, 3, 8))):
        source.choice(_CHANGES)(data, seeds, source)
    return bytes(data[:_LONGEST])


def inputs(seeds: Sequence[bytes], seed: str) -> Iterator[bytes]:
    """Yield the seeds themselves, then changes of them; the same ones for the same ``seed``."""
    yield from seeds
    source = random.Random(seed)
    while True:
        yield mutated(seeds, source)


def _flip(data: bytearray, _seeds: Sequence[bytes], source: random.Random) -> None:
    if data:
        data[source.randrange(len(data))] ^= 1 << source.randrange(8)


def _cut(data: bytearray, _seeds: Sequence[bytes], source: random.Random) -> None:
    start, end = _range(data, source)
    del data[start:end]


def _repeat(data: bytearray, _seeds: Sequence[bytes], source: random.Random) -> None:
    start, end = _range(data, source)
    data[start:start] = data[start:end] * source.choice((1, 2, 10, 300))


def _insert(data: bytearray, _seeds: Sequence[bytes], source: random.Random) -> None:
    at = source.randint(0, len(data))
    data[at:at] = source.choice(_PIECES)


def _replace(data: bytearray, _seeds: Sequence[bytes], source: random.Random) -> None:
    start, end = _range(data, source)
    data[start:end] = source.choice(_PIECES)


def _splice(data: bytearray, seeds: Sequence[bytes], source: random.Random) -> None:
    other = source.choice(seeds)
    start, end = _range(other, source)
    at = source.randint(0, len(data))
    data[at:at] = other[start:end]


def _nest(data: bytearray, _seeds: Sequence[bytes], source: random.Random) -> None:
    at = source.randint(0, len(data))
    data[at:at] = source.choice(_MULTIPLIED) * source.choice((3, 120, 3000))


def _range(data: bytes | bytearray, source: random.Random) -> tuple[int, int]:
    start = source.randint(0, len(data))
    return start, min(len(data), start + source.choice((1, 2, 4, 16, 64)))


_CHANGES: Final[tuple[Callable[[bytearray, Sequence[bytes], random.Random], None], ...]] = (
    *(_flip, _cut, _repeat, _insert, _insert, _replace, _replace, _splice, _nest),
)
