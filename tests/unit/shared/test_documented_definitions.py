"""What the documentation shows, and what the examples are, is valid."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.generators.workflows import definition

ROOT = Path(__file__).parents[3]
PAGES = ("docs/definitions.md", "README.md")
EXAMPLES = sorted((ROOT / "examples").glob("*/workflow.yaml"))


def documented() -> list[Any]:
    """Return every workflow on the pages, with its place."""
    found = []
    for page in PAGES:
        text = (ROOT / page).read_text()
        for block in re.finditer(r"(?ms)^```yaml\n(.*?)^```$", text):
            line = text[: block.start()].count("\n") + 1
            found.append(pytest.param(block[1], id=f"{page}:{line}"))
    return found


@pytest.mark.parametrize("text", documented())
def test_a_definition_of_the_documentation_is_valid(text: str) -> None:
    """Node types of users' own take anything."""
    document = yaml.safe_load(text)
    assert definition(document.pop("nodes"), **document).nodes


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.parent.name)
def test_an_example_is_valid(path: Path) -> None:
    """As `tailrace up --demo` installs it."""
    document = yaml.safe_load(path.read_text())
    assert definition(document.pop("nodes"), **document).nodes


def test_every_page_has_definitions() -> None:
    """Should their form change, the test above must notice."""
    assert len(documented()) >= 5
