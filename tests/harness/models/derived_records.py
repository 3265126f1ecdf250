"""What is told of executions beside their logs, held to the logs: headers and last results."""

from collections.abc import Iterator

from harness.models.log_invariants import Record
from tailrace_shared.execution.state import ExecutionState, fold
from tailrace_shared.stores.indexes.result_index import Result


def wrong_headers(records: dict[str, Record]) -> Iterator[str]:
    """Yield which commits' headers do not say what the log folds to with them.

    Parts of a turn that took several commits say nothing of how the execution stands; the last
    commit of an execution always does.
    """
    for execution, record in records.items():
        state = ExecutionState()
        for commit in record.commits:
            for event in commit.events():
                state.apply(event)
            place = f"{execution} at {commit.sequence}"
            if commit.workflow != state.workflow_id:
                yield f"{place} is of {state.workflow_id}, and says {commit.workflow!r}"
            if commit.status_header and commit.status_header != str(state.commit_status):
                yield f"{place} stands at {state.commit_status}, and says {commit.status_header!r}"
        if not record.commits[-1].status_header:
            yield f"{execution} ends without saying how it stands"


def last_results(records: dict[str, Record]) -> dict[str, Result]:
    """Return of each workflow how the execution ended that ended last."""
    last: dict[str, Result] = {}
    for execution, record in records.items():
        state = fold(record.events)
        end = record.commits[-1].sequence
        if state.workflow_id not in last or last[state.workflow_id].sequence < end:
            result = Result(execution, state.status, end, state.finished_at or "")
            last[state.workflow_id] = result
    return last
