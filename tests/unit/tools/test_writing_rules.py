"""The check of the writing rules."""

import pytest

from tools.writing_rules import Allowed, Finding, allowance, check


def _found(text: str, path: str = "shared/src/a.py") -> list[str]:
    return [finding.phrase for finding in check(path, text)]


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("# Nobody calls this.\n", "Nobody"),
        ("def test_nobody_waits(): ...\n", "nobody"),
        ("# A client is told about it.\n", "told"),
        ('"""Count.\n\nAt the\nmost ten.\n"""\n', "At the most"),
    ],
)
def test_phrases_are_found_in_names_and_across_lines(text: str, phrase: str):
    """A wrapped comment and an identifier count like any other prose."""
    assert _found(text) == [phrase]


@pytest.mark.parametrize(
    "text",
    [
        '"""What the settings say."""\n',
        '"""The broker: what it delivers."""\n',
        'LIMIT = 1\n"""By whose limit."""\n',
        'def write_log():\n    """Write the log."""\n',
    ],
)
def test_docstrings_that_are_riddles_or_repeat_the_name_are_found(text: str):
    """Each of the docstring rules has one finding here."""
    assert len(_found(text)) == 1


def test_plain_text_has_no_findings():
    """Words that merely contain a forbidden word are fine."""
    assert _found('"""Evict the oldest entry; the goldtold worker retries."""\n') == []


def test_type_checking_guards_are_found_in_the_product_only():
    """Tests may guard imports, the product may not hide a cycle."""
    text = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    pass\n"
    assert _found(text) == ["TYPE_CHECKING"]
    assert _found(text, "tests/a.py") == []


def test_an_exception_covers_one_phrase_below_one_path():
    """The allow-list matches by the beginning of the path and a part of the phrase."""
    allowed = [Allowed("docs/", "nobody", "a quotation")]
    assert allowance(Finding("docs/a.md", 1, "nobody", ""), allowed) == allowed[0]
    assert allowance(Finding("docs/a.md", 1, "whoever", ""), allowed) is None
    assert allowance(Finding("README.md", 1, "nobody", ""), allowed) is None
