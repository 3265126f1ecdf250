"""Golden logs: executions written by earlier releases, which every later release must read.

Each release has a folder, and each execution three files in it: ``<name>.jsonl`` with one commit
per line, ``<name>.definition.json`` with the workflow, and ``<name>.state.json`` with the folded
state.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from harness.models.log_reading import Record
from tailrace_shared.execution.commits import encode_commits
from tailrace_shared.execution.events import StepWaiting
from tailrace_shared.execution.state import ExecutionState, fold
from tailrace_shared.stores.log_records import Commit
from tailrace_shared.workflow.definition import decode_definition, encode_definition

LOGS: Final = Path(__file__).parents[2] / "golden" / "logs"
UNFETCHED: Final = "<kept by reference>"
_LONG_CHARS: Final = 500


class GoldenLog(NamedTuple):
    """One execution of a release."""

    release: str
    name: str
    record: Record
    state: dict[str, Any]

    @property
    def title(self) -> str:
        """The id of the parametrised test."""
        return f"{self.release}-{self.name}"


def golden_logs() -> Iterator[GoldenLog]:
    """Read all golden logs, oldest release first."""
    for file in sorted(LOGS.glob("*/*.jsonl")):
        definition = decode_definition(file.with_suffix(".definition.json").read_bytes())
        commits = [
            Commit(
                line["sequence"], json.dumps(line["events"]).encode(), line["writer"], line["time"]
            )
            for line in map(json.loads, file.read_text().splitlines())
        ]
        state = json.loads(file.with_suffix(".state.json").read_text())
        yield GoldenLog(file.parent.name, file.stem, Record(definition, commits), state)


def write_golden_log(folder: Path, name: str, record: Record) -> None:
    """Write one execution into the folder of a release."""
    lines = [
        json.dumps(
            {
                "sequence": commit.sequence,
                "writer": commit.writer,
                "time": commit.time,
                "events": json.loads(commit.payload),
            }
        )
        for commit in record.commits
    ]
    (folder / f"{name}.jsonl").write_text("".join(f"{line}\n" for line in lines))
    (folder / f"{name}.definition.json").write_bytes(
        msgspec.json.format(encode_definition(record.definition), indent=2) + b"\n"
    )
    state = json.dumps(state_values(fold(record.events)), indent=2, sort_keys=True)
    (folder / f"{name}.state.json").write_text(f"{state}\n")


def state_values(state: ExecutionState) -> dict[str, Any]:
    """Return a folded state as JSON values; long texts are replaced by their length."""
    for step in state.steps.values():
        if step.output is msgspec.UNSET:
            step.output = UNFETCHED
    values: dict[str, Any] = _shortened(msgspec.to_builtins(state, order="deterministic"))
    # The files keep the name that the field had when the first of them was recorded.
    values["signal_mark"] = values.pop("waits_digest")
    return values


def _shortened(value: Any) -> Any:
    match value:
        case str() if len(value) > _LONG_CHARS:
            return f"<{len(value)} characters>"
        case dict():
            return {key: _shortened(each) for key, each in value.items()}
        case list():
            return [_shortened(each) for each in value]
        case _:
            return value


def prefixes(record: Record) -> Iterator[Record]:
    """Yield the execution after each of its commits except the last."""
    for end in range(1, len(record.commits)):
        yield Record(record.definition, record.commits[:end])


def transplanted(commit: Commit, execution: str, version: int) -> bytes:
    """Return the payload of a commit, rewritten for the log of another execution."""
    events = commit.events()
    for event in events:
        if hasattr(event.data, "execution_id"):
            event.data.execution_id = execution
        if hasattr(event.data, "version"):
            event.data.version = version
        if isinstance(event, StepWaiting) and event.data.child_execution_id is not None:
            event.data.child_execution_id = f"{execution}-child"
    (payload,) = encode_commits(events)
    return payload
