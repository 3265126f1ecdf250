"""Links and paths in the documentation lead to files that exist."""

import re
from pathlib import Path

import pytest

from tools.writing_rules import ROOT, tracked_files

PAGES = [path for path in tracked_files(ROOT) if path.endswith(".md")]
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)#\s]*)(#[^)\s]+)?\)")
HEADING = re.compile(r"(?m)^#+ +(.+)$")
PATH = re.compile(r"`((?:[a-z_]+/)+[a-z_]+(?:\.py)?|[a-z_]+\.py)`")


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_pages_and_headings(page: str):
    """Relative links only; the network is not needed."""
    broken = []
    for target, anchor in LINK.findall(_prose(page)):
        if "://" in target:
            continue
        path = (ROOT / page).parent / target if target else ROOT / page
        if not path.exists() or (anchor and anchor[1:] not in _anchors(path)):
            broken.append(target + anchor)
    assert not broken


def test_the_paths_in_the_architecture_exist():
    """A path may leave out its beginning; it must be the end of a file's or a folder's path."""
    files = [f"/{path}" for path in tracked_files(ROOT)]
    known = {str(parent) for path in files for parent in (Path(path), *Path(path).parents)}
    named = PATH.findall((ROOT / "ARCHITECTURE.md").read_text())
    assert named
    missing = [path for path in named if not any(each.endswith(f"/{path}") for each in known)]
    assert not missing


def _prose(page: str) -> str:
    return re.sub(r"(?ms)^```.*?^```$", "", (ROOT / page).read_text())


def _anchors(path: Path) -> set[str]:
    headings = HEADING.findall(path.read_text())
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings}
