"""Logs with the run documents that the API shows after some of their events, for other folds.

``PYTHONPATH=tests python -m harness.web.fold_cases FILE`` writes them, one JSON document per line.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, Final

import msgspec

from harness.generators.golden_logs import golden_logs
from harness.generators.random_workflows import EVERY_TIMEOUT, Mix, random_workflow
from harness.models.log_reading import Record
from harness.models.simulation import Simulation
from tailrace_api.documents.run_document import run_document
from tailrace_shared.execution.commits import split_commit
from tailrace_shared.execution.events import Event
from tailrace_shared.execution.state import ExecutionState
from tailrace_shared.redact.masking import mask_event
from tailrace_shared.workflow.definition import Definition

_MOST_DOCUMENTS: Final = 40

_decode: Final = msgspec.json.Decoder(Event).decode


def case(title: str, record: Record, source: Random, documents: int) -> dict[str, Any]:
    """Return a log as clients see it, and its run documents after some numbers of events.

    Args:
        source: chooses after which events; the last one is always among them.
        documents: the maximum number of documents.
    """
    stored = [
        _with_detail(each, source)
        for commit in record.commits
        for each in split_commit(commit.payload)
    ]
    chosen = {len(stored), *source.sample(range(1, len(stored) + 1), min(documents, len(stored)))}
    state = ExecutionState()
    after: dict[int, Any] = {}
    for count, event in enumerate(stored, 1):
        state.apply(_decode(event))
        if count in chosen:
            after[count] = run_document(state, record.definition, now=0.0)
    return {
        "title": title,
        "nodes": _nodes(record.definition),
        "events": [mask_event(event) for event in stored],
        "after": after,
    }


def _with_detail(stored: msgspec.Raw, source: Random) -> msgspec.Raw:
    """Add the traceback that no golden log and no simulation has."""
    event = msgspec.json.decode(stored)
    if event["type"] not in {"step:failed", "step:retrying"} or source.random() < 0.5:
        return stored
    event["data"]["error_detail"] = "Traceback (most recent call last)"
    return msgspec.Raw(msgspec.json.encode(event))


def _nodes(definition: Definition) -> list[dict[str, Any]]:
    groups = {node_id: group for group, members in definition.groups.items() for node_id in members}
    return [
        {
            "id": node_id,
            "type": node.type,
            "name": node.name,
            "item_type": node.parameters.get("do", {}).get("type"),
            "group": groups.get(node_id),
        }
        for node_id, node in definition.all_nodes.items()
    ]


def fold_cases(generated: int) -> Iterator[dict[str, Any]]:
    """Yield all golden logs, and as many random ones as asked for."""
    for golden in golden_logs():
        yield case(golden.title, golden.record, Random(golden.title), _MOST_DOCUMENTS)
    for seed in range(generated):
        source = Random(seed)
        nodes = source.randrange(1, 40 if seed % 50 == 0 else 6)
        workflow = random_workflow(source, nodes, Mix(timeouts=EVERY_TIMEOUT))
        world = Simulation(workflow, source, largest_turn=source.choice([1, 8]))
        world.turn()
        for _ in range(source.randrange(nodes * 6)):
            if world.is_over:
                break
            world.act(disturbed=0.2)
        yield case(f"seed {seed}", world.record, source, 2)


def write(file: Path, generated: int) -> None:
    """Write cases, one per line."""
    encode = msgspec.json.Encoder().encode
    with file.open("wb") as target:
        for each in fold_cases(generated):
            target.write(encode(each) + b"\n")


if __name__ == "__main__":
    write(Path(sys.argv[1]), generated=2_000)
