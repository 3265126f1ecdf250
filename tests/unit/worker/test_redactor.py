"""Redaction by value: a secret is masked in every encoding, and nothing else changes."""

import base64
import html
import json
import urllib.parse
from collections.abc import Callable

import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace_worker.secrets.redactor import Redactor

SECRETS = [
    "hunter22",
    "p@ss/w+rd=",
    "quo\"te's and\tspaces",
    "back\\slash\\n",
    "&<html>;",
    "пароль",
    "é😀ü",
    "%41%42%43",
    "%25%2525",
    "&amp;&#38;&",
    'one\\\\two\\"\\\n\\u0041\\',
]


def base64_after(count: int, encode: Callable[[bytes], bytes]) -> Callable[[str], str]:
    """Return a function that encodes a longer text with the secret in its middle."""
    return lambda text: encode(b"user:12"[:count] + text.encode() + b"tail").decode()


WRITTEN: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "repr": lambda text: repr(text)[1:-1],
    "ascii": lambda text: ascii(text)[1:-1],
    "JSON": lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    "ASCII JSON": lambda text: json.dumps(text)[1:-1],
    "JSON in JSON": lambda text: json.dumps(json.dumps(text))[3:-3],
    "JSON by msgspec": lambda text: msgspec.json.encode(text).decode()[1:-1],
    "URL path": urllib.parse.quote,
    "URL, all of it": lambda text: urllib.parse.quote(text, safe=""),
    "URL, lower case": lambda text: urllib.parse.quote(text).replace("%C3", "%c3"),
    "form": urllib.parse.quote_plus,
    "httpx": lambda text: str(httpx.URL("http://x/", params={"q": text}))[12:],
    "HTML": html.escape,
    "hexadecimal": lambda text: text.encode().hex(),
    "HEXADECIMAL": lambda text: text.encode().hex().upper(),
}
ENCODED = {
    f"{name} after {count}": base64_after(count, encode)
    for count in range(7)
    for name, encode in (
        ("Base64", base64.b64encode),
        ("URL-safe Base64", base64.urlsafe_b64encode),
        ("quoted Base64", lambda data: urllib.parse.quote(base64.b64encode(data)).encode()),
    )
}


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("form", WRITTEN)
def test_a_secret_is_masked_in_every_encoding(form: str, secret: str):
    """The mask replaces exactly the secret."""
    assert Redactor([secret]).redact_text(f"<{WRITTEN[form](secret)}>") == "<***>"


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("form", ENCODED)
def test_a_secret_is_found_in_the_middle_of_base64(form: str, secret: str):
    """For example in ``Authorization: Basic``; the rest reveals no character of the secret."""
    seen = Redactor([secret]).redact_text(ENCODED[form](secret))
    assert "***" in seen
    assert len(seen) < 4 * len("user:12tail")


@pytest.mark.parametrize(
    ("secret", "answer"),
    [
        ('"quoted"', "\\" * 200_000),
        ("\\" * 64, "\\" * 200_000),
        ('\\"' * 64, '\\\\"' * 63 * 500),
        ('{"a": "b", ' * 200 + "}", '{"a": "b", ' * 2_000),
        ("%25" * 64, "%25" * 60_000),
        ("&amp;" * 64, "&amp;" * 40_000 + "x"),
        ("é " * 64, "é+" * 60_000),
    ],
)
def test_a_hostile_response_cannot_slow_the_search(secret: str, answer: str):
    """The search ends soon, however similar the response is to the secret (CWE-1333)."""
    seen = Redactor([secret]).redact_text(answer)
    assert seen == answer or "***" in seen


def test_each_line_of_a_key_is_masked():
    """Except the first and last lines, which all keys have in common."""
    key = "-----BEGIN KEY-----\nMIIEvQIBADANBg\nkqhkiG9w0BAQEF\n-----END KEY-----\n"
    redactor = Redactor([key])
    assert redactor.redact_text(key) == "***"
    assert redactor.redact_text("line 2: kqhkiG9w0BAQEF") == "line 2: ***"
    assert redactor.redact_text("-----BEGIN KEY-----") == "-----BEGIN KEY-----"


def test_a_secret_within_a_longer_one_is_masked_with_it():
    """In any order of the secrets."""
    assert Redactor(["abcd", "abcdefgh"]).redact_text("abcdefgh abcd") == "*** ***"


def test_nested_values_are_searched():
    """Texts, keys, numbers, and JSON within a text."""
    redactor = Redactor(["s3cr3t", "123456"])
    value = {
        "a": ["s3cr3t", {"s3cr3t": 1}],
        "n": 123456,
        "f": 1.234567,
        "inner": '{"k":"s3cr3t"}',
        "clean": [True, None, 5, "text"],
    }
    assert redactor.redact_value(value) == {
        "a": ["***", {"***": 1}],
        "n": "***",
        "f": 1.234567,
        "inner": '{"k":"***"}',
        "clean": [True, None, 5, "text"],
    }


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(json_values, st.text(min_size=4, max_size=20))
def test_a_value_without_secrets_is_returned_unchanged(value, secret):
    """It is the same object; a changed value contains no secret."""
    redactor = Redactor([secret])
    seen = redactor.redact_value(value)
    assert seen is value or secret in json.dumps(value, ensure_ascii=False) or seen != value
    assert not contains(seen, secret)


def contains(value, secret):
    """Return whether any text of a value contains a secret."""
    match value:
        case str():
            return secret in value
        case dict():
            return any(contains(each, secret) for pair in value.items() for each in pair)
        case list():
            return any(contains(each, secret) for each in value)
        case _:
            return False


def test_the_repr_of_a_redactor_contains_no_secret():
    """Debuggers and tracebacks print the repr."""
    assert "hunter22" not in repr(Redactor(["hunter22"]))
