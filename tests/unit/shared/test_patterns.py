"""Patterns of tenants: their syntax, and how large they may be."""

import pytest

from tailrace_shared.workflow.patterns import PatternError, compile_pattern


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (r"^\u00e9$", "é"),
        (r"^\u{1F600}$", "😀"),
        (r"^\ud83d\ude00$", "😀"),
        (r"^\cA$", "\x01"),
        (r"^\p{L}+$", "é"),
        (r"^\p{Letter}+$", "é"),
        (r"^\P{Script=Greek}$", "a"),
        (r"\\u00e9", r"\u00e9"),
        (r"[\w.-]+@\w+", "a.b@c"),
        (r"a\/b", "a/b"),
    ],
)
def test_escapes_of_ecmascript_are_taken(pattern: str, text: str):
    """JSON Schema has the patterns of ECMAScript, whose escapes the engine lacks."""
    assert compile_pattern(pattern).matches(text)


@pytest.mark.parametrize("pattern", ["(?=a)", r"(a)\1", "(", "a{2000}", r"(\pL{50}){10}", "[z-a]"])
def test_what_would_backtrack_or_is_too_large_is_refused(pattern: str):
    """The error quotes the pattern."""
    with pytest.raises(PatternError, match=r".+: .+"):
        compile_pattern(pattern)


def test_a_pattern_is_compiled_once():
    """A loop over a thousand texts compiles its pattern once."""
    assert compile_pattern("^once$") is compile_pattern("^once$")


def test_the_cost_grows_with_the_pattern_and_the_text():
    """It is a bound for every text, so it is the product of the two sizes."""
    small, large = compile_pattern("ab"), compile_pattern("(?:ab?){200}")
    assert large.cost("x" * 1000) > 20 * small.cost("x" * 1000)
    assert large.cost("é" * 1000) > large.cost("x" * 2000) > large.cost("x" * 1000)
