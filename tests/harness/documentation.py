"""The fenced blocks of the documentation."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
# The first line of a block that has values of the chart.
VALUES_OF_THE_CHART = "# values.yaml\n"


class Block(NamedTuple):
    """A fenced block of a page.

    Attributes:
        place: Path of the page from the root of the repository, a colon and the line.
        text: What is between the fences.
    """

    place: str
    text: str


def blocks(pages: Iterable[str], language: str) -> list[Block]:
    """Return the blocks of a language, in the order of the pages.

    Args:
        pages: Paths from the root of the repository.
        language: The word after the opening fence.
    """
    found = []
    for page in pages:
        text = (ROOT / page).read_text()
        for block in re.finditer(rf"(?ms)^```{language}\n(.*?)^```$", text):
            line = text[: block.start()].count("\n") + 1
            found.append(Block(f"{page}:{line}", block[1]))
    return found
