"""The deviations from a specification that are known, by reason, with the tests that show them.

``python -m harness.models.deviations NAME`` prints them as they must stand in the documentation.
"""

import sys
import tomllib
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from harness.generators.suites import SUITES

EFFECTS: Final = {
    "refused": "Refused when the definition is stored",
    "fails": "Fails the step",
    "differs": "Gives another result",
}


class Deviation(NamedTuple):
    """A difference to the specification.

    Attributes:
        text: the sentence in the documentation.
        effect: what becomes of an expression or a schema, a key of ``EFFECTS``.
        cases: the ids of the tests of the suite that show it.
    """

    text: str
    effect: str
    cases: list[str]


def read_deviations(name: str) -> list[Deviation]:
    document: dict[str, Any] = tomllib.loads((SUITES / f"{name}_deviations.toml").read_text())
    return [Deviation(**each) for each in document["deviation"]]


def mismatches(name: str, found: Mapping[str, str]) -> list[str]:
    """Compare the deviations that a run of the suite has found with the known ones.

    Args:
        found: for each test with another result than the suite's, the effect.
    """
    known = {
        case: deviation.effect for deviation in read_deviations(name) for case in deviation.cases
    }
    return [
        f"{case}: is {found.get(case, 'right')}, listed as {known.get(case, 'right')}"
        for case in sorted({*known, *found})
        if known.get(case) != found.get(case)
    ]


def documented(name: str) -> str:
    """Return the deviations as they must stand in the documentation."""
    parts: list[str] = []
    for effect, sentence in EFFECTS.items():
        texts = [each.text for each in read_deviations(name) if each.effect == effect]
        if texts:
            parts.append("\n".join([f"{sentence}:", "", *(f"- {text}" for text in texts)]))
    return "\n\n".join(parts)


if __name__ == "__main__":
    print(documented(sys.argv[1]))  # noqa: T201
