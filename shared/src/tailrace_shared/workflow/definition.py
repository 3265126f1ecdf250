"""The workflow definition in its canonical form, validated and ready to store and run."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from tailrace_shared.duration import Duration

Join = Literal["all", "any", "all_done"]
OnTimeout = Literal["cancel", "fail", "continue"]
OnCrash = Literal["retry", "fail"]
OnLimit = Literal["queue", "cancel_running", "cancel_new"]
OnError = Literal["fail", "collect"]


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
    """

    id: str
    nodes: dict[str, Node]
    name: str = ""
    description: str = ""
    input: Any = None
    output: Any = None
    concurrency: Concurrency | None = None

    @property
    def title(self) -> str:
        return self.name or self.id


def encode_definition(definition: Definition) -> bytes:
    """Return the canonical JSON of a definition, which is its stored form."""
    return msgspec.json.encode(definition)


decode_definition = msgspec.json.Decoder(Definition).decode
