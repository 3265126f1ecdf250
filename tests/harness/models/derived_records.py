"""Compare records derived from logs, status headers and last results, with the logs."""

from collections.abc import Iterator

from harness.models.log_reading import Record
from tailrace_shared.execution.state import ExecutionState, fold
from tailrace_shared.stores.indexes.result_index import Result


def wrong_headers(records: dict[str, Record]) -> Iterator[str]:
    """Yield the commits whose status headers differ from the folded log.

    A turn that is split into several commits has a status header on its last commit only. The last
    commit of an execution always has one.
    """
    for execution, record in records.items():
        state = ExecutionState()
        for commit in record.commits:
            for event in commit.events():
                state.apply(event)
            place = f"{execution} at {commit.sequence}"
            if commit.workflow != state.workflow_id:
                yield f"{place} is of {state.workflow_id}, but its header is {commit.workflow!r}"
            if commit.status_header and commit.status_header != str(state.commit_status):
                yield (
                    f"{place} has the status {state.commit_status}, "
                    f"but its header is {commit.status_header!r}"
                )
        if not record.commits[-1].status_header:
            yield f"the last commit of {execution} has no status header"


def last_results(records: dict[str, Record]) -> dict[str, Result]:
    """Return the result of each workflow's last execution to end."""
    last: dict[str, Result] = {}
    for execution, record in records.items():
        state = fold(record.events)
        end = record.commits[-1].sequence
        if state.workflow_id not in last or last[state.workflow_id].sequence < end:
            result = Result(execution, state.status, end, state.finished_at or "")
            last[state.workflow_id] = result
    return last
