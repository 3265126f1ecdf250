"""Redaction by value: a secret is found however it is written, and nothing else changes."""

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
    """Return Base64 of a text that the secret is in the middle of."""
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
def test_a_secret_is_replaced_however_it_is_written(form: str, secret: str):
    """All of it, and nothing beside it."""
    assert Redactor([secret]).redact_text(f"<{WRITTEN[form](secret)}>") == "<***>"


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("form", ENCODED)
def test_a_secret_is_found_in_the_middle_of_base64(form: str, secret: str):
    """So ``Authorization: Basic`` is: what is left of it gives no character away."""
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
def test_no_answer_keeps_a_worker_searching(secret: str, answer: str):
    """However like the secret it is, up to the end: the search is over."""
    seen = Redactor([secret]).redact_text(answer)
    assert seen == answer or "***" in seen


def test_each_line_of_a_key_is_a_secret_of_its_own():
    """But for those that all keys have in common."""
    key = "-----BEGIN KEY-----\nMIIEvQIBADANBg\nkqhkiG9w0BAQEF\n-----END KEY-----\n"
    redactor = Redactor([key])
    assert redactor.redact_text(key) == "***"
    assert redactor.redact_text("line 2: kqhkiG9w0BAQEF") == "line 2: ***"
    assert redactor.redact_text("-----BEGIN KEY-----") == "-----BEGIN KEY-----"


def test_a_secret_within_a_longer_one_goes_with_it():
    """Whichever was named first."""
    assert Redactor(["abcd", "abcdefgh"]).redact_text("abcdefgh abcd") == "*** ***"


def test_values_are_searched_to_their_depth():
    """Texts, keys, numbers, and JSON that is a text."""
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
def test_what_holds_no_secret_is_the_very_same_object(value, secret):
    """And what is changed holds none."""
    redactor = Redactor([secret])
    seen = redactor.redact_value(value)
    assert seen is value or secret in json.dumps(value, ensure_ascii=False) or seen != value
    assert not contains(seen, secret)


def contains(value, secret):
    """Tell whether a text of a value has a secret in it."""
    match value:
        case str():
            return secret in value
        case dict():
            return any(contains(each, secret) for pair in value.items() for each in pair)
        case list():
            return any(contains(each, secret) for each in value)
        case _:
            return False


def test_nothing_of_a_secret_is_in_how_a_redactor_prints():
    """Debuggers print what they find."""
    assert "hunter22" not in repr(Redactor(["hunter22"]))
