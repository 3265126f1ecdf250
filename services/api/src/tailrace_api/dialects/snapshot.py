"""The status of a tenant's live executions at one position of its log."""

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Self

from tailrace_api.dialects.context import Context
from tailrace_shared.estimation import RunHistory
from tailrace_shared.execution.summary import RunSummary


class RunsOf(NamedTuple):
    """Some runs of a tenant; all of them by default.

    Attributes:
        workflow: only runs of this workflow.
        tag: only runs with this tag.
    """

    workflow: str | None = None
    tag: str | None = None

    def includes(self, context: Context) -> bool:
        """Return whether a run belongs to them."""
        return self.workflow in {None, context.workflow_id} and (
            self.tag is None or self.tag in context.tags
        )


ALL_RUNS: Final = RunsOf()


class Statistics(NamedTuple):
    """The statistics of a tenant.

    Attributes:
        records: the history of finished runs, by workflow.
    """

    tenant: str
    records: Mapping[str, RunHistory]


class SnapshotQuery(NamedTuple):
    """The contents of a snapshot.

    Attributes:
        waits: whether to include steps that wait for a signal and the contexts of their
            executions; if so, all executions are included.
        workflows: the workflows whose executions and last results to include; None for the
            executions of all workflows and no results.
        runs: the kinds of runs of which to include the newest, finished ones as well.
        statistics: whether to include statistics; if so, all executions are included.
    """

    waits: bool = False
    workflows: frozenset[str] | None = None
    runs: frozenset[RunsOf] = frozenset()
    statistics: bool = False

    @property
    def is_of_all(self) -> bool:
        """Whether the executions of all workflows are included."""
        return self.waits or self.statistics or self.workflows is None

    @classmethod
    def union(cls, queries: Collection[Self]) -> Self:
        """Return a query whose snapshot can be restricted to each of some queries."""
        workflows = [query.workflows for query in queries if query.workflows is not None]
        return cls(
            any(query.waits for query in queries),
            frozenset().union(*workflows) if workflows else None,
            frozenset().union(*(query.runs for query in queries)),
            any(query.statistics for query in queries),
        )


class WaitingStep(NamedTuple):
    """A step that waits for a signal, as its `step:waiting` event describes it.

    Attributes:
        since: the time of that event (RFC 3339).
        triggers: the procedures that can send the signal.
        until: when the wait times out (RFC 3339); None for never.
        variables: outputs of steps of the execution, by node id.
    """

    node_id: str
    since: str
    reason: str
    triggers: Sequence[str]
    until: str | None
    variables: Mapping[str, Any] = MappingProxyType({})


class ExecutionStatus(NamedTuple):
    """The status of a live execution.

    Attributes:
        context: the execution; complete if it has waits and the query includes them, else with its
            workflow's id only.
        waits: the steps that wait for a signal, oldest first, if the query includes them.
    """

    context: Context
    status: str
    waits: Sequence[WaitingStep] = ()


class EarlierStatus(NamedTuple):
    """The status of an execution at an earlier position.

    Attributes:
        status: its status; None if it did not exist yet or had ended.
    """

    workflow_id: str
    status: str | None


class Ended(NamedTuple):
    """The run of a workflow that ended last.

    Attributes:
        at: when it ended (RFC 3339).
    """

    execution_id: str
    status: str
    at: str


class Snapshot(NamedTuple):
    """A tenant at one position of its log.

    Attributes:
        sequence: the newest commit of the tenant that is included.
        executions: the live executions at that commit, as far as the query includes them.
        ended: by workflow in the query, the run that ended last.
        workflows: the workflows in the query that exist.
        runs: by kind in the query, the newest runs at that commit, newest first.
        statistics: the statistics, if the query includes them. Runs that have just ended may be
            missing.
    """

    sequence: int
    executions: Sequence[ExecutionStatus]
    ended: Mapping[str, Ended]
    workflows: frozenset[str]
    runs: Mapping[RunsOf, Sequence[RunSummary]] = MappingProxyType({})
    statistics: Statistics | None = None

    def restricted(self, query: SnapshotQuery) -> "Snapshot":
        """Return what a query asks for of a snapshot that contains more."""
        workflows = query.workflows
        asked = self._replace(
            runs={kind: runs for kind, runs in self.runs.items() if kind in query.runs},
            statistics=self.statistics if query.statistics else None,
        )
        if workflows is None:
            return asked._replace(ended={}, workflows=frozenset())
        executions = self.executions
        if not query.is_of_all:
            executions = [each for each in executions if each.context.workflow_id in workflows]
        return asked._replace(
            executions=executions,
            ended={name: ended for name, ended in self.ended.items() if name in workflows},
            workflows=self.workflows & workflows,
        )
