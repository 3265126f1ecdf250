"""JSON on the command line is parsed strictly."""

import io
from pathlib import Path

import click
import pytest

from tailrace.commands.json_input import JsonInput


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": [1, 2.5, true, null, "ä"]}', {"a": [1, 2.5, True, None, "ä"]}),
        ("\ufeff{}", {}),
        ("123456789012345678901234567890", 123456789012345678901234567890),
        ('"\\ud83d\\ude00"', "😀"),
        ("0", 0),
        ("[]", []),
    ],
)
def test_json_is_taken_unchanged(text: str, value: object) -> None:
    """A byte order mark is no part of the value."""
    assert JsonInput().convert(text, None, None) == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a":1,"a":2}', "duplicate key 'a'"),
        ('[{"b": {"a":1,"a":1}}]', "duplicate key 'a'"),
        ("null", "null is not a value here; leave the option out"),
        ("NaN", "NaN is not JSON"),
        ("1e999", "too large"),
        ('"\\ud800"', "half of a surrogate pair"),
        ("'\udcff'", "not JSON"),
        ("[" * 100_000, "nested more than"),
        ("9" * 5000, "a number of 5000 digits"),
        ("{a: 1}", "not JSON: .* at 1:2"),
        ("", "not JSON"),
        ("@/nowhere/file.json", "/nowhere/file.json: No such file"),
    ],
)
def test_other_input_is_refused_with_its_reason(text: str, reason: str) -> None:
    """Nothing is dropped or replaced."""
    with pytest.raises(click.BadParameter, match=reason):
        JsonInput().convert(text, None, None)


def test_a_file_may_begin_with_a_byte_order_mark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows editors write it; stdin is read like a file."""
    path = tmp_path / "input.json"
    path.write_bytes(b"\xef\xbb\xbf" + '{"a": "ü"}'.encode())
    assert JsonInput().convert(f"@{path}", None, None) == {"a": "ü"}
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(path.read_bytes())))
    assert JsonInput().convert("@-", None, None) == {"a": "ü"}


def test_a_file_in_another_encoding_is_refused(tmp_path: Path) -> None:
    """UTF-16 has its own byte order mark."""
    path = tmp_path / "input.json"
    path.write_bytes("{}".encode("utf-16"))
    with pytest.raises(click.BadParameter, match="not UTF-8 text"):
        JsonInput().convert(f"@{path}", None, None)
