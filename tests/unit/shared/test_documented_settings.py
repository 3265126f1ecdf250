"""Every setting that a page names exists."""

import re
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGES = sorted(
    chain(
        ROOT.glob("*.md"),
        ROOT.glob("docs/**/*.md"),
        ROOT.glob("shared/*.md"),
        ROOT.glob("services/*/*.md"),
        ROOT.glob("clients/*/*.md"),
    )
)
NAME = re.compile(r"\bTAILRACE_[A-Z_]*[A-Z]\b")
SECRETS = "TAILRACE_SECRET_"
"""Operators choose the rest of these names."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_setting_on_a_page_is_in_the_reference(page: Path) -> None:
    """A name that is wrong ends the service that an operator starts with it."""
    reference = (ROOT / "docs/configuration.md").read_text()
    known = set(re.findall(r"^\| `(\w+)` \|", reference, re.MULTILINE))
    named = {name for name in NAME.findall(page.read_text()) if not name.startswith(SECRETS)}
    assert named <= known
