"""The streams of a tenant, word for word: one story, as each of their front ends reads it.

``TAILRACE_RECORD=1`` writes the files anew, to be read before they are committed.
"""

import os
from pathlib import Path
from typing import Final

import pytest

from harness.generators.dialect_story import BAD, GOOD, LEFT, STORY, wire
from tailrace_api.dialects.dialect import Dialect
from tailrace_api.dialects.encoding import without_id
from tailrace_api.dialects.execution import EXECUTION
from tailrace_api.dialects.multiplex import NamedTopic, multiplex
from tailrace_api.dialects.paused_workflows import PAUSED_WORKFLOWS
from tailrace_api.dialects.pipeline_status import Pipelines
from tailrace_api.dialects.runs import Runs
from tailrace_api.dialects.snapshot import Snapshot
from tailrace_api.dialects.statistics import STATISTICS
from tailrace_api.dialects.tenant_feed import TENANT_FEED
from tailrace_shared.subjects import LogFilter

GOLDEN: Final = Path(__file__).parents[2] / "golden"
MIDDLE: Final = 8
MILLISECONDS: Final = 1_705_314_600_000
EMPTY: Final = Snapshot(
    40, (), {}, frozenset({context.workflow_id for context in (GOOD, BAD, LEFT)})
)
MULTIPLEX: Final = multiplex(
    [
        NamedTopic(f"execution:{GOOD.execution_id}", EXECUTION, GOOD.execution_id),
        NamedTopic("paused", PAUSED_WORKFLOWS),
        NamedTopic("feed", TENANT_FEED),
        NamedTopic("pipeline:purchase-order", Pipelines(frozenset({GOOD.workflow_id}))),
    ]
)
DIALECTS: Final[list[Dialect]] = [PAUSED_WORKFLOWS, TENANT_FEED, MULTIPLEX, Runs(), STATISTICS]

each_dialect = pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)


def beginning(dialect: Dialect) -> bytes:
    """Return the blocks before the story."""
    greeting = dialect.greet(LogFilter("merchant-7"), MILLISECONDS)
    return without_id([greeting] if greeting else [])


def recorded(dialect: Dialect) -> bytes:
    """Return the bytes of two clients: one from the beginning, one from the middle."""
    if dialect.snapshot_query is None:
        return beginning(dialect) + b"".join(wire(dialect, STORY))
    state = dialect.begin(EMPTY)
    opening = without_id(state.opening(MILLISECONDS))
    first = b"".join(wire(dialect, STORY[:MIDDLE], state.show))
    comes = beginning(dialect) + without_id(state.opening(MILLISECONDS))
    rest = b"".join(wire(dialect, STORY[MIDDLE:], state.show))
    later = b": a client that comes now\n\n" + comes + b": and both go on\n\n"
    return beginning(dialect) + opening + first + later + rest


@each_dialect
def test_a_story_equals_its_golden_file(dialect: Dialect) -> None:
    """Every kind of event that a dialect shows, with its name, its fields and its id."""
    file = GOLDEN / f"{dialect.name}.sse"
    if os.environ.get("TAILRACE_RECORD"):
        file.write_bytes(recorded(dialect))
    assert recorded(dialect).decode() == file.read_text()


@each_dialect
def test_the_end_of_one_run_does_not_end_a_tenants_stream(dialect: Dialect) -> None:
    """Ids only grow, even after runs end."""
    ids = [line for line in recorded(dialect).decode().splitlines() if line.startswith("id: ")]
    places = [tuple(map(int, line.split("-")[1:])) for line in ids]
    assert places == sorted(set(places))
