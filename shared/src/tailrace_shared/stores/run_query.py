"""Which runs a list has. Pure."""

from collections.abc import Sequence
from typing import Final, NamedTuple, Self

from tailrace_shared.execution.summary import RunSummary
from tailrace_shared.execution.timestamps import parse_timestamp
from tailrace_shared.ids import check_id, creation_time
from tailrace_shared.stores.indexes.start_index import Start


class RunQuery(NamedTuple):
    """The filters of a list of runs. A run must match all that are not None.

    Attributes:
        workflow: only runs of this workflow.
        status: only runs in this status.
        tag: only runs with this tag.
        parent: only child runs of this execution.
        created_after: only runs created at this time (seconds since the epoch) or later.
        created_before: only runs created before this time.
        text: only runs whose id, or whose workflow's id, contains this text.
    """

    workflow: str | None = None
    status: str | None = None
    tag: str | None = None
    parent: str | None = None
    created_after: float | None = None
    created_before: float | None = None
    text: str | None = None

    def checked(self) -> Self:
        """Return the query, if its ids are valid.

        Raises:
            InvalidIdError: one of them is not.
        """
        for what, value in (("workflow", self.workflow), ("tag", self.tag)):
            if value is not None:
                check_id(value, what)
        if self.parent is not None:
            check_id(self.parent, "parent")
        return self

    def is_of_rows(self, kinds: Sequence[str]) -> bool:
        """Return whether all rows of some kinds in the start index match, as far as they exist."""
        is_selective = self.text is not None or self.created_after is not None
        return not is_selective and (self.status is None or tuple(kinds) == (self.status,))

    def may_include(self, workflow: str, start: Start) -> bool:
        """Return whether a run may match, by what its row in the start index says."""
        if self.workflow not in {None, workflow}:
            return False
        if self.text is not None and self.text not in f"{start.execution_id} {workflow}":
            return False
        return self._is_in_time(_created(start.created_at, start.execution_id))

    def includes(self, run: RunSummary) -> bool:
        """Return whether a run matches. Rows say which workflow and text it has."""
        return (
            self.status in {None, run.status}
            and (self.tag is None or self.tag in run.tags)
            and self.parent in {None, run.parent}
            and self._is_in_time(_created(run.created_at, run.execution_id))
        )

    def _is_in_time(self, created: float | None) -> bool:
        if created is None:
            return True
        is_late_enough = self.created_after is None or created >= self.created_after
        return is_late_enough and (self.created_before is None or created < self.created_before)


ALL_RUNS: Final = RunQuery()


def _created(created_at: str | None, execution: str) -> float | None:
    return creation_time(execution) if created_at is None else parse_timestamp(created_at)
