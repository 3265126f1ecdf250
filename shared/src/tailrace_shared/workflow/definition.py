"""A workflow definition, as it is stored and run: already validated, in one canonical form."""

from typing import Any, Literal

import msgspec

from tailrace_shared.duration import Duration

Join = Literal["all", "any", "all_done"]


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
        timeout: longest time that one attempt may take, as a duration.
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

    @property
    def timeout_seconds(self) -> float | None:
        """The timeout in seconds."""
        return None if self.timeout is None else Duration.parse(self.timeout)


class Definition(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A workflow: its nodes by id, what goes in, and what comes out.

    Attributes:
        id: the workflow's id.
        name: what people call it; its id if empty.
        description: free text.
        input: JSON Schema that the input of a run must satisfy; None accepts all.
        output: template of the run's output; None gives the outputs of the nodes that nothing
            needs, by id.
        nodes: in the order in which they were written.
    """

    id: str
    nodes: dict[str, Node]
    name: str = ""
    description: str = ""
    input: Any = None
    output: Any = None

    @property
    def title(self) -> str:
        """What people call the workflow."""
        return self.name or self.id


def encode_definition(definition: Definition) -> bytes:
    """Return the canonical JSON of a definition, the form in which it is stored."""
    return msgspec.json.encode(definition)


decode_definition = msgspec.json.Decoder(Definition).decode
