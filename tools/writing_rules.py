"""Check the prose of code, docs and tests against the project's writing rules.

A rule is a regular expression with the plain wording to use instead. Most rules apply to the whole
text of a file, names included. The docstring rules and the ban on ``TYPE_CHECKING`` in the product
apply to Python files only.

``python -m tools.writing_rules`` prints the number of findings for each file, ``--list`` prints
each finding with its line. The exit status is 1 if anything was found.

``ALLOWED`` holds the exceptions, each with its reason. An exception that matches nothing is
reported too, so the list cannot outlive its reasons.
"""

import argparse
import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parent.parent
SUFFIXES: Final = frozenset({".py", ".md", ".yaml", ".yml", ".toml", ".js", ".html"})
NAMES: Final = frozenset({"justfile"})

PRODUCT: Final = ("shared/src/", "services/api/src/", "services/worker/src/", "clients/python/src/")


class Rule(NamedTuple):
    """Words that the project does not use, and what to write instead."""

    pattern: str
    instead: str


class Allowed(NamedTuple):
    """An exception: ``phrase`` may occur in the files whose path begins with ``path``."""

    path: str
    phrase: str
    reason: str


class Finding(NamedTuple):
    """One match of a rule."""

    path: str
    line: int
    phrase: str
    instead: str


_ACTOR: Final = "name the actor: worker, client, API replica, operator, caller, tenant"

RULES: Final = (
    # Indefinite persons and things.
    Rule(r"nobody", _ACTOR),
    Rule(r"somebody", _ACTOR),
    Rule(r"everybody", _ACTOR),
    Rule(r"anybody", _ACTOR),
    Rule(r"(?:some|any|every)one", _ACTOR),
    Rule(r"who(?:m)?ever", _ACTOR),
    Rule(r"(?:those|all|one) who", _ACTOR),
    Rule(r"by whom", _ACTOR),
    Rule(r"who (?:asks?|asked|waits?|waited|reads?|comes?|has|is)", _ACTOR),
    Rule(r"whatever", "name the thing, or write 'any'"),
    Rule(r"(?:what|all) there is", "name the thing"),
    Rule(r"there is to", "name the thing"),
    Rule(r"what is (?:left|wanted|to be)", "name the thing"),
    # House idioms.
    Rule(r"told", "receives, is notified, learns; name the message"),
    Rule(r"tells? of", "reports, describes"),
    Rule(r"(?:come|comes|came|coming) back with", "returns, raises, responds with"),
    Rule(r"as (?:it|they|he|she|one|you) likes?", "state the range or the condition"),
    Rule(r"at the (?:most|least)", "at most, at least"),
    Rule(r"nothing (?:but|more)", "only"),
    Rule(r"for want of", "without, because there is no"),
    Rule(r"goes? over (?:all|what)", "scans, redacts, iterates"),
    Rule(r"(?:have|has|had|let) runs (?:start|begin|begun)", "start runs"),
    Rule(r"of one's own", "own, dedicated, separate"),
    Rule(r"streams? of (?:its|their) own", "dedicated stream"),
    Rule(r"lets? go of", "releases, closes"),
    Rule(r"sa(?:y|ys|id|ying) so", "report it; name the message"),
    Rule(r"in vain", "without success"),
    Rule(r"long since", "already"),
)

_SEPARATOR: Final = r"(?:[\s_]+(?:[#>*]+[ \t]+)?)"
_RULES: Final = tuple(
    (
        re.compile(
            rf"(?<![A-Za-z])(?:{rule.pattern.replace(' ', _SEPARATOR)})(?![A-Za-z])", re.IGNORECASE
        ),
        rule,
    )
    for rule in RULES
)
_ANY_RULE: Final = re.compile("|".join(pattern.pattern for pattern, _ in _RULES), re.IGNORECASE)

_RIDDLE: Final = re.compile(
    r"(?:(?:By|For|From|In|On|Of|To|With) )?(?:What|Who|Whom|Whose|That which)\b", re.IGNORECASE
)
_COLON_SUMMARY: Final = re.compile(
    r"[^.:`]{2,60}: (?:what|who|how|where|when|which|whether|why|that|all|as)\b"
)
_ARTICLES: Final = frozenset({"a", "an", "the", "this", "its", "of", "to", "for"})

ALLOWED: Final = (
    Allowed("tools/writing_rules.py", "", "the rules themselves"),
    Allowed("tests/unit/tools/test_writing_rules.py", "", "examples of what the rules find"),
    Allowed("tests/unit/api/test_pipeline_status.py", "nobody", "an id in a golden file"),
    Allowed("clients/python/src/tailrace/__init__.py", "TYPE_CHECKING", "lazy exports, no cycle"),
)


def check(path: str, text: str) -> list[Finding]:
    """Return what the rules find in one file, exceptions not yet taken into account."""
    findings = list(_phrases(path, text))
    if path.endswith(".py"):
        findings.extend(_docstrings(path, text))
        if path.startswith(PRODUCT):
            findings.extend(_type_checking(path, text))
    return sorted(findings, key=lambda finding: finding.line)


def allowance(finding: Finding, allowed: Sequence[Allowed]) -> Allowed | None:
    """Return the first exception that covers a finding."""
    for entry in allowed:
        if finding.path.startswith(entry.path) and entry.phrase in finding.phrase:
            return entry
    return None


def run(root: Path, paths: Iterable[str]) -> list[Finding]:
    """Check files and return the findings without an exception, and exceptions without a use."""
    unused = dict.fromkeys(ALLOWED)
    findings = []
    for path in paths:
        for finding in check(path, (root / path).read_text(encoding="utf-8")):
            entry = allowance(finding, ALLOWED)
            if entry is None:
                findings.append(finding)
            else:
                unused.pop(entry, None)
    findings.extend(
        Finding("tools/writing_rules.py", 1, f"{entry.path} {entry.phrase}", "unused exception")
        for entry in unused
    )
    return findings


def tracked_files(root: Path) -> list[str]:
    """Return the paths of the text files that Git tracks or would add, relative to the root."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],  # noqa: S607
        cwd=root,
        check=True,
        capture_output=True,
        text=True,
    )
    return [
        path
        for path in sorted(listed.stdout.splitlines())
        if (Path(path).suffix in SUFFIXES or Path(path).name in NAMES) and (root / path).is_file()
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the check from the command line and return the exit status."""
    parser = argparse.ArgumentParser(prog="writing_rules", description=__doc__.partition("\n")[0])
    parser.add_argument("prefixes", nargs="*", help="paths to check; all tracked files by default")
    parser.add_argument("--list", action="store_true", help="print each finding with its line")
    options = parser.parse_args(arguments)
    prefixes = tuple(options.prefixes) or ("",)
    findings = run(ROOT, tracked_files(ROOT))
    findings = [finding for finding in findings if finding.path.startswith(prefixes)]
    if options.list:
        for finding in findings:
            print(f"{finding.path}:{finding.line}: {finding.phrase!r}: {finding.instead}")
    else:
        for path, count in Counter(finding.path for finding in findings).most_common():
            print(f"{count:4} {path}")
    print(f"writing rules: {len(findings)} findings")
    return 1 if findings else 0


def _phrases(path: str, text: str) -> Iterator[Finding]:
    if _ANY_RULE.search(text) is None:
        return
    for pattern, rule in _RULES:
        for match in pattern.finditer(text):
            phrase = re.sub(r"[\s#>*]+", " ", match[0])
            yield Finding(path, text.count("\n", 0, match.start()) + 1, phrase, rule.instead)


def _docstrings(path: str, text: str) -> Iterator[Finding]:
    """Find docstrings that open with a riddle, use the colon style, or repeat the name."""
    for scope in ast.walk(ast.parse(text)):
        if not isinstance(
            scope, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        ):
            continue
        for name, node in _documented(scope):
            summary = node.value.strip().partition("\n")[0]
            if _RIDDLE.match(summary):
                yield Finding(path, node.line, summary, "name the thing: 'The …', 'Return …'")
            elif _COLON_SUMMARY.match(summary):
                yield Finding(path, node.line, summary, "state the role in one plain clause")
            elif name and _repeats(name, node.value):
                yield Finding(path, node.line, summary, "delete it: it only repeats the name")


class _Docstring(NamedTuple):
    value: str
    line: int


_Scope = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def _documented(scope: _Scope) -> Iterator[tuple[str, _Docstring]]:
    """Yield each docstring in a scope: its own, and those below assignments."""
    docstring = ast.get_docstring(scope)
    if docstring is not None:
        name = "" if isinstance(scope, ast.Module) else scope.name
        yield name, _Docstring(docstring, scope.body[0].lineno)
    for before, statement in zip(scope.body, scope.body[1:], strict=False):
        match before, statement:
            case (
                ast.AnnAssign() | ast.Assign(),
                ast.Expr(value=ast.Constant(value=str() as value)),
            ):
                yield "", _Docstring(value, statement.lineno)
            case _:
                pass


def _repeats(name: str, docstring: str) -> bool:
    said = [word for word in re.findall(r"[a-z]+", docstring.lower()) if word not in _ARTICLES]
    named = re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower())
    return said == [word for word in named if word not in _ARTICLES]


def _type_checking(path: str, text: str) -> Iterator[Finding]:
    for number, line in enumerate(text.splitlines(), start=1):
        if re.match(r"\s*if (?:typing\.)?TYPE_CHECKING\b", line):
            instead = "import it plainly; break the cycle"
            yield Finding(path, number, "TYPE_CHECKING", instead)


if __name__ == "__main__":
    sys.exit(main())
