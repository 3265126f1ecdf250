"""The workflow definition in its canonical form, validated and ready to store and run."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from tailrace_shared.duration import Duration

Join = Literal["all", "any", "all_done", "all_success"]
OnTimeout = Literal["cancel", "fail", "continue"]
OnCrash = Literal["retry", "fail"]
OnLimit = Literal["queue", "cancel_running", "cancel_new"]
OnError = Literal["fail", "collect"]
OnNodeError = Literal["fail", "continue"]
Overlap = Literal["queue", "skip", "cancel"]
Group = Literal["on_failure", "finally"]

CLEANUP_TIMEOUT: Final = "1h"
"""Time limit of an attempt in ``finally`` without one: a cancellation does not end the group."""

MAX_TAGS: Final = 16
"""Maximum number of tags of a run, those of its definition included. Tags are ids."""


class Retry(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The retry policy of a node.

    Attributes:
        max_attempts: maximum number of attempts, including the first.
        initial: delay before the second attempt, as a duration.
        factor: factor between consecutive delays.
        max: maximum delay, as a duration.
        jitter: whether each delay is drawn at random from its upper half.
    """

    max_attempts: Annotated[int, Meta(ge=1, le=1000)] = 1
    initial: str = "500ms"
    factor: Annotated[float, Meta(ge=1, le=100)] = 2.0
    max: str = "30s"
    jitter: bool = True


class Node(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One step of a workflow.

    Attributes:
        type: a registered node type.
        name: display name; the node's id if empty.
        parameters: parameters of the node type, with expressions inside (``with`` in JSON).
        needs: ids of the nodes that must settle first.
        when: CEL expression; the node is skipped if it is false.
        join: the required outcome of the needs.
        stage: name of the node on the tenant feed.
        retry: retry policy of failed attempts.
        timeout: time limit of one attempt, as a duration; for an ``await``, of its wait.
        on_timeout: effect of the timeout of an ``await``.
        on_crash: whether to retry or fail after the worker of an attempt is lost. Use ``fail`` for
            steps whose effects must not be repeated.
        on_error: ``continue`` lets the run go on after a failure as if the step had succeeded
            without an output.
        sensitive: whether the output is masked, or which values in it, as JSON Pointers in which
            ``*`` stands for every item of a list.
    """

    type: str
    name: str = ""
    parameters: dict[str, Any] = msgspec.field(name="with", default_factory=dict)
    needs: list[str] = []
    when: str | None = None
    join: Join = "all"
    stage: str | None = None
    retry: Retry | None = None
    timeout: str | None = None
    on_timeout: OnTimeout | None = None
    on_crash: OnCrash = "retry"
    sensitive: bool | list[str] = False
    on_error: OnNodeError = "fail"

    @property
    def timeout_seconds(self) -> float | None:
        return None if self.timeout is None else Duration.parse(self.timeout)


class ItemWork(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The work of a ``map`` for each item (``with.do``); fields as in :class:`Node`."""

    type: str
    parameters: dict[str, Any] = msgspec.field(name="with", default_factory=dict)
    retry: Retry | None = None
    timeout: str | None = None
    on_crash: OnCrash = "retry"
    sensitive: bool | list[str] = False

    def node(self) -> Node:
        return Node(
            type=self.type,
            parameters=self.parameters,
            retry=self.retry,
            timeout=self.timeout,
            on_crash=self.on_crash,
            sensitive=self.sensitive,
        )


class MapWork(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The parameters of a ``map``.

    Attributes:
        for_each: CEL expression that gives a list.
        do: the work for each item of the list.
        max_parallel: maximum number of items that run at a time.
        on_error: ``fail`` starts no more items after a failure and fails the map; ``collect``
            replaces the output of a failed item with ``{"error": ...}``.
    """

    for_each: str
    do: ItemWork
    max_parallel: Annotated[int, Meta(ge=1, le=1000)] = 10
    on_error: OnError = "fail"


class Concurrency(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The concurrency limit of a workflow's runs, across all workers.

    Attributes:
        limit: maximum number of active runs for each value of the key.
        key: CEL expression over ``input``; None puts all runs into one group.
        on_limit: whether a run beyond the limit is queued, cancels the oldest active run, or is
            cancelled itself.
    """

    limit: Annotated[int, Meta(ge=1, le=1000)]
    key: str | None = None
    on_limit: OnLimit = "queue"


class FailureGroup(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Nodes that run after a failure (``on_failure``).

    Attributes:
        nodes: the nodes by id; they may need each other.
        then: the status of the run if all of them succeed.
    """

    nodes: dict[str, Node]
    then: Literal["failed", "completed"] = "failed"


class FinalGroup(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Nodes that run at the end of every run (``finally``).

    Attributes:
        nodes: the nodes by id; they may need each other.
    """

    nodes: dict[str, Node]


class Defaults(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Settings of all nodes, and of the work of maps, that have none of their own.

    Attributes:
        retry: the retry policy.
        timeout: the time limit of an attempt, as a duration. It does not apply to ``await``.
    """

    retry: Retry | None = None
    timeout: str | None = None


class ScheduleSpec(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A schedule that is installed together with its workflow.

    Attributes:
        id: the id of the schedule, unique among all schedules of the tenant.
        cron: a cron expression with five or six fields, or a name such as ``@hourly``.
        every: an interval, as a duration; instead of ``cron``.
        time_zone: IANA time zone of ``cron``; UTC if None.
        input: the input of its runs.
        overlap: whether a firing is queued, skipped, or cancels its predecessor while a run of
            the same schedule is active; None lets its runs overlap.
    """

    id: str
    cron: str | None = None
    every: str | None = None
    time_zone: str | None = None
    input: Any = msgspec.field(default_factory=dict)
    overlap: Overlap | None = None


class Definition(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A workflow: its nodes, input and output.

    Attributes:
        id: the id of the workflow.
        nodes: the nodes by id, in their original order.
        name: display name; the id if empty.
        description: free text.
        input: JSON Schema of the input of runs; None accepts any input.
        output: template of the output of runs; None returns the outputs of the leaves by id.
        concurrency: concurrency limit of runs; None for no limit.
        timeout: time limit of the nodes, from the start of a run, as a duration.
        on_failure: nodes that run after a failure.
        finally_: nodes that run at the end of every run (``finally`` in JSON).
        defaults: settings of nodes that have none of their own.
        schedules: schedules that start runs.
        tags: tags of every run, to find and follow runs by.
    """

    id: str
    nodes: dict[str, Node]
    name: str = ""
    description: str = ""
    input: Any = None
    output: Any = None
    concurrency: Concurrency | None = None
    timeout: str | None = None
    on_failure: FailureGroup | None = None
    finally_: FinalGroup | None = msgspec.field(name="finally", default=None)
    defaults: Defaults | None = None
    schedules: list[ScheduleSpec] = []
    tags: list[str] = []

    @property
    def title(self) -> str:
        return self.name or self.id

    @property
    def timeout_seconds(self) -> float | None:
        return None if self.timeout is None else Duration.parse(self.timeout)

    @property
    def groups(self) -> dict[Group, Mapping[str, Node]]:
        """The groups of nodes that follow the main part, in their order."""
        groups: dict[Group, Mapping[str, Node]] = {}
        if self.on_failure is not None:
            groups["on_failure"] = self.on_failure.nodes
        if self.finally_ is not None:
            groups["finally"] = self.finally_.nodes
        return groups

    @property
    def all_nodes(self) -> Mapping[str, Node]:
        """The nodes of the main part and of the groups."""
        groups = self.groups
        if not groups:
            return self.nodes
        return dict(_merged(self.nodes, *groups.values()))

    def with_defaults(self, node: Node, group: Group | None = None) -> Node:
        """Return a node with the settings that it takes from the defaults."""
        retry = None if self.defaults is None else self.defaults.retry
        timeout = None if self.defaults is None else self.defaults.timeout
        if group == "finally":
            timeout = timeout or CLEANUP_TIMEOUT
        if node.type == "await":
            timeout = None
        if (retry is None or node.retry is not None) and (timeout is None or node.timeout):
            return node
        return msgspec.structs.replace(
            node, retry=node.retry or retry, timeout=node.timeout or timeout
        )

    def tags_with(self, more: Iterable[str]) -> list[str]:
        """Return the tags of a run that has some tags of its own, without repetitions."""
        return list(dict.fromkeys([*self.tags, *more]))


def _merged(*parts: Mapping[str, Node]) -> Iterator[tuple[str, Node]]:
    for part in parts:
        yield from part.items()


def encode_definition(definition: Definition) -> bytes:
    """Return the canonical JSON of a definition, which is its stored form."""
    return msgspec.json.encode(definition)


decode_definition = msgspec.json.Decoder(Definition).decode
