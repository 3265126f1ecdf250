"""Check the expressions of a definition: their syntax, and the names that they use.

An expression may refer to a node only if that node has run before. This needs the graph, so
references are collected first and checked last.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from tailrace_shared.errors import InvalidExpressionError
from tailrace_shared.ids import is_valid_id
from tailrace_shared.json_pointer import join_pointer
from tailrace_shared.workflow import pace
from tailrace_shared.workflow.expressions.expression import Expression, compile_expression
from tailrace_shared.workflow.expressions.template import InvalidTemplateError, compile_template
from tailrace_shared.workflow.node_types import NodeType
from tailrace_shared.workflow.problem_report import ProblemReport, nearest
from tailrace_shared.workflow.schemas.properties import unknown_property

NAMES: Final = ("input", "nodes", "execution")
"""Names that every expression of a node or of the output may use."""


MAX_CHARACTERS: Final = 512 * 1024
"""Limit of all expressions of a definition together: a worker compiles them all."""

STATUSES: Final = (
    *("success", "error", "skipped", "cancelled"),
    *("pending", "running", "waiting", "retrying"),
)
"""The values of ``nodes.<id>.status``; first those of a node that has settled."""

_FIELDS: Final = {
    "nodes": ("output", "status", "error"),
    "execution": ("id", "workflow", "started_at", "scheduled_at"),
}
_OUTPUTS: Final[Mapping[str, Sequence[str]]] = {
    "await": ("decision", "data", "actor", "event"),
    "emit": ("matched",),
    "http": ("status", "headers", "body"),
}
"""The fields of outputs that are always objects, by node type."""
# The words of runs and of other systems.
_STATUS_SYNONYMS: Final = {
    "failed": "error",
    "failure": "error",
    "fail": "error",
    "completed": "success",
    "succeeded": "success",
    "ok": "success",
    "done": "success",
    "queued": "pending",
    "paused": "waiting",
}
_RECORDED: Final = (
    "secrets are not allowed here, because the result is recorded: "
    "use them in the `with` of a node that takes secrets, such as http"
)


class Scope(NamedTuple):
    """The context of an expression, which decides what it may refer to.

    Attributes:
        node: the node, or None outside of nodes.
        no_secrets: why secrets are not allowed; empty if they are.
    """

    node: str | None
    names: Sequence[str] = NAMES
    no_secrets: str = _RECORDED


class Readable(NamedTuple):
    """The nodes of one part of a workflow, and what its expressions may read of them.

    Attributes:
        leads_to: tells whether its first node is an ancestor of its second; None if unknown.
    """

    nodes: Mapping[str, Any]
    leads_to: Callable[[str, str], bool] | None


class _Reference(NamedTuple):
    pointer: str
    node: str | None
    expression: Expression


class References:
    """Checks the expressions of one definition, and collects their references to nodes."""

    def __init__(self, problems: ProblemReport) -> None:
        self._problems = problems
        self._references: list[_Reference] = []
        self._characters = 0

    def expression(self, pointer: str, source: Any, place: Scope) -> None:
        if not isinstance(source, str):
            self._problems.report(pointer, "an expression must be a string (CEL)")
            return
        if source.lstrip().startswith("${"):
            self._problems.report(pointer, "this field is an expression already: remove ${ and }")
            return
        try:
            self._add(pointer, compile_expression(source), place)
        except InvalidExpressionError as error:
            self._problems.report(pointer, f"not valid CEL: {error}")

    def template(self, pointer: str, value: Any, place: Scope) -> None:
        """Check the expressions inside ``${…}`` anywhere in a value."""
        try:
            template = compile_template(value)
        except InvalidTemplateError as invalid:
            for path, error in invalid.errors:
                self._problems.report(join_pointer(pointer, *path), f"not valid CEL: {error}")
        except RecursionError:
            self._problems.report(pointer, "nested too deeply")
        else:
            for path, expression in template.expressions:
                self._add(join_pointer(pointer, *path), expression, place)

    def _add(self, pointer: str, expression: Expression, place: Scope) -> None:
        pace.pause()
        self._characters += len(expression.source)
        if self._characters > MAX_CHARACTERS >= self._characters - len(expression.source):
            self._problems.report(
                "", f"the expressions have more than {MAX_CHARACTERS} characters in total"
            )
        if "secrets" in expression.names:
            self._check_secret(pointer, expression, place)
        for name in sorted(expression.names - {*place.names, "secrets"}):
            self._problems.report(
                pointer,
                f"unknown name {name!r}{self._problems.nearest(name, place.names)}: "
                f"an expression may use {', '.join(place.names)}"
                f"{'' if place.names is NAMES else ' here'}",
            )
        self._check_fields(pointer, expression, place)
        self._references.append(_Reference(pointer, place.node, expression))

    def _check_fields(self, pointer: str, expression: Expression, place: Scope) -> None:
        for path in sorted(expression.paths):
            if path[0] not in place.names:
                continue
            depth = 2 if path[0] == "nodes" else 1
            known = _FIELDS.get(path[0])
            if known and len(path) > depth and path[depth] not in known:
                near = self._problems.nearest(path[depth], known)
                self._problems.report(
                    pointer,
                    f"there is no field {'.'.join(path[: depth + 1])!r}{near}: "
                    f"the fields are {', '.join(known)}",
                )
        for status in sorted(expression.statuses - set(STATUSES)):
            meant = _STATUS_SYNONYMS.get(status.lower())
            near = self._problems.nearest(status, STATUSES)
            near = f", did you mean {meant!r}?" if meant else near
            self._problems.report(
                pointer,
                f"the status of a node is never {status!r}{near}: "
                f"it is one of {', '.join(STATUSES)}",
            )

    def _check_secret(self, pointer: str, expression: Expression, place: Scope) -> None:
        if place.no_secrets:
            self._problems.report(pointer, place.no_secrets)
        elif expression.secret is None:
            # The result of a computation with a secret could not be recognised and redacted.
            self._problems.report(
                pointer,
                "a secret must be used as ${secrets.name}, alone or within a longer string: "
                "expressions cannot compute with secrets",
            )
        elif not is_valid_id(expression.secret):
            self._problems.report(
                pointer, "the name of a secret must be at most 64 characters long"
            )

    def check_input(self, schema: Any) -> None:
        """Check that the schema of the input has the properties that expressions read."""
        for pointer, _node, expression in self._references:
            for path in sorted(expression.paths):
                if path[0] == "input" and (found := unknown_property(schema, path[1:])):
                    at = ".".join(path[: found.depth + 2])
                    self._problems.report(
                        pointer,
                        f"the schema of the input has no property {at!r}"
                        f"{nearest(path[found.depth + 1], found.known)}",
                    )

    def check_outputs(self, nodes: Mapping[str, Any], node_types: Mapping[str, NodeType]) -> None:
        """Check that outputs whose fields are known have those that expressions read."""
        for pointer, _node, expression in self._references:
            for path in sorted(expression.paths):
                if path[0] == "nodes" and len(path) > 3 and path[2] == "output":
                    node = nodes.get(path[1])
                    if isinstance(node, dict) and (
                        detail := _unknown_output(path, node, node_types)
                    ):
                        self._problems.report(pointer, detail)

    def check_nodes(self, parts: Sequence[Readable]) -> None:
        """Check that all referenced nodes exist and have run before.

        Args:
            parts: the main part first; every other part may read the main part.
        """
        nodes = {node_id: part for part in reversed(parts) for node_id in part.nodes}
        for pointer, node, expression in self._references:
            for named in sorted(expression.nodes or ()):
                part = nodes.get(named)
                if part is None:
                    near = self._problems.nearest(named, nodes)
                    self._problems.report(pointer, f"there is no node {named!r}{near}")
                elif node is None or node not in nodes:
                    continue
                elif nodes[node] is not part:
                    if part is not parts[0]:
                        self._problems.report(
                            pointer, f"{named!r} may not have run before {node!r}"
                        )
                elif part.leads_to and not part.leads_to(named, node):
                    self._problems.report(
                        pointer,
                        f"{named!r} may not have run before {node!r}: "
                        f"add it to the needs of {node!r}",
                    )


def _unknown_output(
    path: tuple[str, ...], node: Mapping[str, Any], node_types: Mapping[str, NodeType]
) -> str | None:
    kind, parameters = node.get("type"), node.get("with")
    if not isinstance(kind, str):
        return None
    fields = _OUTPUTS.get(kind)
    if fields is None:
        known = node_types.get(kind)
        return None if known is None else _unknown_field(path, known.output)
    if path[3] not in fields:
        return (
            f"the output of {path[1]!r} has no field {path[3]!r}{nearest(path[3], fields)}: "
            f"the fields are {', '.join(fields)}"
        )
    form = parameters.get("form") if isinstance(parameters, dict) else None
    if kind == "await" and path[3] == "data" and (found := unknown_property(form, path[4:])):
        at = ".".join(path[4 : found.depth + 5])
        return (
            f"the form of {path[1]!r} has no property {at!r}"
            f"{nearest(path[found.depth + 4], found.known)}"
        )
    return None


def _unknown_field(path: tuple[str, ...], schema: Any) -> str | None:
    found = unknown_property(schema, path[3:])
    if found is None:
        return None
    at, near = ".".join(path[3 : found.depth + 4]), nearest(path[found.depth + 3], found.known)
    return f"the output of {path[1]!r} has no field {at!r}{near}"
