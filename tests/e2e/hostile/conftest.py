"""An installation for the attacks of one tenant."""

from collections.abc import Iterator

import pytest

from harness.hostile.stack import Stack, hostile_stack


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Start one process of each service, and the bystander, for all attacks."""
    with hostile_stack(tmp_path_factory.mktemp("hostile")) as started:
        yield started
