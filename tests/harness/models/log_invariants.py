"""Invariants of a single log, checked against the log and the definition alone.

Each rule sees every event before it is folded, and yields a sentence for each violation. The rules
express the guarantees of the engine in terms of the definition; the fold is the only product code
that they depend on.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from harness.models.log_reading import Reading, Record, Rule
from harness.models.run_rules import Ending, Groups, Holds, Items, Pauses
from harness.models.step_rules import Attempts, Signals, Starts, Writers
from tailrace_shared.execution.state import (
    ExecutionState,
    IllegalEventError,
    StepState,
    awaits_signal,
)

_LONGEST_LINE: Final = 500
"""Characters of a commit in the report of a violation."""

RULES: Final[tuple[type[Rule], ...]] = (
    Starts,
    Attempts,
    Writers,
    Holds,
    Pauses,
    Items,
    Signals,
    Groups,
    Ending,
)


def violations(record: Record, *, ended: bool = True) -> list[str]:
    """Return the violations in one log, as sentences.

    Args:
        ended: whether the execution must have ended.
    """
    return list(_violations(record, ended=ended))


def _violations(record: Record, *, ended: bool) -> Iterator[str]:
    rules = [rule() for rule in RULES]
    at = Reading(record.definition)
    for commit in record.commits:
        if commit.sequence <= at.sequence:
            yield f"the commit {commit.sequence} comes after {at.sequence}"
        at.sequence, at.writer = commit.sequence, commit.writer
        for event in commit.events():
            for rule in rules:
                yield from (f"{commit.sequence}: {problem}" for problem in rule.sees(event, at))
            try:
                at.state.apply(event)
            except IllegalEventError as error:
                yield f"{commit.sequence}: {error}"
                return
    if ended and not at.state.is_terminal:
        yield f"the execution has not ended: it is {at.state.status}"


def undriven_violations(state: ExecutionState) -> list[str]:
    """Return the violations of an execution that no worker drives: it must not look active."""
    if state.is_terminal or state.status == "queued":
        return []
    steps = state.steps.values()
    if state.is_held:
        runs = any(step.status == "running" and step.items is None for step in steps)
        is_paused = runs or state.status == "paused"
        return [] if is_paused else ["a pause was requested, and it is not paused"]
    if signalled := [step.node_id for step in steps if step.resolution is not None]:
        return [f"the signal of {', '.join(signalled)} has not been applied"]
    goes_on = any(_goes_on(step) for step in steps)
    if state.status == "running" and not goes_on:
        return ["it cannot proceed without a signal, and it is not paused"]
    return []


def _goes_on(step: StepState) -> bool:
    if step.status == "waiting":
        return not awaits_signal(step)
    return step.status in {"running", "retrying"} and step.items is None


def check(records: Iterable[Record], *, ended: bool = True) -> None:
    """Assert that each of some logs, taken alone, has no violation."""
    for record in records:
        problems = violations(record, ended=ended)
        assert not problems, _report(record, problems)


def _report(record: Record, problems: Sequence[str]) -> str:
    lines = [
        f"{commit.sequence} {commit.writer or '-'} {commit.payload.decode()}"[:_LONGEST_LINE]
        for commit in record.commits
    ]
    # The problems come last: the end of a long report is what is read first.
    return "\n".join([*lines, "", *problems])
