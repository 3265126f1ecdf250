"""A workflow definition, as it is stored and run: already validated, in one canonical form."""

from typing import Any, Literal

import msgspec

from tailrace_shared.duration import Duration

Join = Literal["all", "any", "all_done"]
OnTimeout = Literal["cancel", "fail", "continue"]
OnCrash = Literal["retry", "fail"]
OnLimit = Literal["queue", "cancel_running", "cancel_new"]
OnError = Literal["fail", "collect"]


class Retry(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """How often, and after what delays, a failing node is tried again.

    Attributes:
        max_attempts: attempts in all, the first included.
        initial: delay before the second attempt, as a duration.
        factor: by which each further delay grows.
        max: the longest delay, as a duration.
        jitter: whether each delay is drawn from the upper half of its length.
    """

    max_attempts: int = 1
    initial: str = "500ms"
    factor: float = 2.0
    max: str = "30s"
    jitter: bool = True


class Node(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One step of a workflow.

    Attributes:
        type: a registered node type.
        name: what people call it; the node's id if empty.
        parameters: what the node type takes, with expressions inside (``with`` on the wire).
        needs: ids of the nodes that must settle first.
        when: CEL; where it is false the node is skipped.
        join: which of the needs must have ended how.
        stage: what the node is called on the tenant feed.
        retry: what happens after a failed attempt.
        timeout: longest time that one attempt may take, as a duration; for an ``await`` the
            longest that it waits.
        on_timeout: what the timeout of an ``await`` does.
        on_crash: what happens when the worker of an attempt is lost: another attempt, or failure
            for steps whose effects must not be repeated.
        sensitive: whether nobody is shown the output, or which places of it, as JSON Pointers in
            which ``*`` is every item of a list.
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
        """The timeout in seconds."""
        return None if self.timeout is None else Duration.parse(self.timeout)


class ItemWork(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a ``map`` does for each item (``with.do``); fields as in :class:`Node`."""

    type: str
    parameters: dict[str, Any] = msgspec.field(name="with", default_factory=dict)
    retry: Retry | None = None
    timeout: str | None = None
    on_crash: OnCrash = "retry"
    sensitive: bool | list[str] = False

    def node(self) -> Node:
        """Return the node that each item is run as."""
        return Node(
            type=self.type,
            parameters=self.parameters,
            retry=self.retry,
            timeout=self.timeout,
            on_crash=self.on_crash,
            sensitive=self.sensitive,
        )


class MapWork(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a ``map`` takes in ``with``.

    Attributes:
        for_each: CEL; a list.
        do: what is done for each of its items.
        max_parallel: how many items run at once.
        on_error: ``fail`` starts no more items after one has failed, and fails the map;
            ``collect`` puts ``{"error": ...}`` in the place of its output.
    """

    for_each: str
    do: ItemWork
    max_parallel: int = 10
    on_error: OnError = "fail"


class Concurrency(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """How many runs of a workflow may run at once, across all workers.

    Attributes:
        limit: that many, for each value of the key.
        key: CEL over ``input``; None makes one group of all runs.
        on_limit: a new run beyond the limit waits in line, cancels the oldest that runs, or is
            cancelled itself.
    """

    limit: int
    key: str | None = None
    on_limit: OnLimit = "queue"


class Definition(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A workflow: its nodes by id, what goes in, and what comes out.

    Attributes:
        id: the workflow's id.
        name: what people call it; its id if empty.
        description: free text.
        input: JSON Schema that the input of a run must satisfy; None accepts all.
        output: template of the run's output; None gives the outputs of the nodes that nothing
            needs, by id.
        concurrency: how many runs may run at once; None: any number.
        nodes: in the order in which they were written.
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
        """What people call the workflow."""
        return self.name or self.id


def encode_definition(definition: Definition) -> bytes:
    """Return the canonical JSON of a definition, the form in which it is stored."""
    return msgspec.json.encode(definition)


decode_definition = msgspec.json.Decoder(Definition).decode
