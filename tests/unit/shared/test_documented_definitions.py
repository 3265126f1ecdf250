"""The definitions in the documentation and in the examples are valid."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.documentation import VALUES_OF_THE_CHART, blocks
from harness.generators.workflows import definition

ROOT = Path(__file__).parents[3]
PAGES = (
    "README.md",
    "docs/definitions.md",
    "docs/tutorial.md",
    *(f"docs/recipes/{page.name}" for page in sorted((ROOT / "docs/recipes").glob("*.md"))),
)
EXAMPLES = sorted((ROOT / "examples").glob("*/workflow.yaml"))


def documented() -> list[Any]:
    """Return every workflow on the pages, with its place."""
    return [
        pytest.param(block.text, id=block.place)
        for block in blocks(PAGES, "yaml")
        if not block.text.startswith(VALUES_OF_THE_CHART)
    ]


@pytest.mark.parametrize("text", documented())
def test_a_definition_of_the_documentation_is_valid(text: str) -> None:
    """Unknown node types accept any parameter, as functions of users do."""
    document = yaml.safe_load(text)
    assert definition(document.pop("nodes"), **document).nodes


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.parent.name)
def test_an_example_is_valid(path: Path) -> None:
    """`tailrace up --demo` installs these files."""
    document = yaml.safe_load(path.read_text())
    assert definition(document.pop("nodes"), **document).nodes


def test_the_pages_have_definitions() -> None:
    """If the pages stop using yaml blocks, the test above must not pass silently."""
    assert len(documented()) >= 15
