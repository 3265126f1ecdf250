"""Validation of a workflow definition: every problem at once, each with its place.

Three passes, each only as far as the one before allows: the structure (fields and their types),
the expressions, the graph. Input is untrusted JSON; the result is a canonical
:class:`~tailrace_shared.workflow.definition.Definition`.
"""

import difflib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec

from tailrace_shared.duration import Duration
from tailrace_shared.ids import is_valid_id, is_valid_node_type
from tailrace_shared.workflow import editor
from tailrace_shared.workflow.definition import Definition, encode_definition
from tailrace_shared.workflow.expressions import (
    Expression,
    InvalidExpressionError,
    InvalidTemplateError,
    compile_expression,
    compile_template,
)
from tailrace_shared.workflow.graph import CycleError, Graph, sort_graph
from tailrace_shared.workflow.input_schema import schema_problems
from tailrace_shared.workflow.node_types import SHIPPED, NodeType, Parameter
from tailrace_shared.workflow.pointer import join

MAX_NODES: Final = 10_000
MAX_BYTES: Final = 1024 * 1024
MAX_PROBLEMS: Final = 1000
MAX_HINTS: Final = 50

_JOINS: Final = ("all", "any", "all_done")
_DEFINITION_FIELDS: Final = ("id", "name", "description", "input", "output", "nodes")
_NODE_FIELDS: Final = (
    "type",
    "name",
    "with",
    "needs",
    "when",
    "join",
    "stage",
    "retry",
    "timeout",
)
_RETRY_FIELDS: Final = ("max_attempts", "initial", "factor", "max", "jitter")
_NODE_NAMES: Final = ("input", "nodes", "execution")


class Problem(msgspec.Struct, frozen=True):
    """One thing that is wrong with a document.

    Attributes:
        pointer: JSON Pointer (RFC 6901) to the place.
        detail: a sentence that says what is wrong and how to put it right.
    """

    pointer: str
    detail: str


class Validated(NamedTuple):
    """What validation found: a definition, or the problems that prevent one."""

    definition: Definition | None
    problems: list[Problem]


def validate(
    document: Any, node_types: Mapping[str, NodeType] = SHIPPED, *, workflow_id: str | None = None
) -> Validated:
    """Check a definition.

    Args:
        document: the definition as decoded from JSON.
        node_types: what is known of each node type that a definition may use.
        workflow_id: the id under which it is to be stored, if that is known from elsewhere.
    """
    validation = _Validation(node_types)
    definition = validation.run(document, workflow_id)
    return Validated(None if validation.problems else definition, validation.problems)


@dataclass(slots=True)
class _Reference:
    pointer: str
    node: str | None
    expression: Expression


class _Validation:
    def __init__(self, node_types: Mapping[str, NodeType]) -> None:
        self.node_types = node_types
        self.problems: list[Problem] = []
        self.places: Mapping[str, str] = {}
        self.hints_left = MAX_HINTS
        self.references: list[_Reference] = []

    def report(self, pointer: str, detail: str) -> None:
        # A definition of ten thousand broken nodes need not be answered with as many sentences.
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(Problem(self.place(pointer), detail))

    def place(self, pointer: str) -> str:
        """Return where in the document as it was given the place ``pointer`` comes from."""
        known, rest = pointer, ""
        while known and known not in self.places:
            known, slash, token = known.rpartition("/")
            rest = f"{slash}{token}{rest}"
        return self.places.get(known, "") + rest

    def nearest(self, word: str, known: Collection[str]) -> str:
        # Looking for the nearest of thousands of names takes milliseconds.
        if self.hints_left <= 0:
            return ""
        self.hints_left -= 1
        return _nearest(word, known)

    def run(self, document: Any, workflow_id: str | None) -> Definition | None:
        if not isinstance(document, dict):
            self.report("", "a definition is an object with the fields id and nodes")
            return None
        document = dict(document)
        if workflow_id is not None and document.setdefault("id", workflow_id) != workflow_id:
            self.report(
                "/id", f"the definition is stored as {workflow_id!r}, so its id must be that"
            )
        if isinstance(document.get("nodes"), list):
            document, problems, places = editor.to_canonical(document)
            for pointer, detail in problems:
                self.report(pointer, detail)
            self.places = places
        self.fields("", document, _DEFINITION_FIELDS, required=("id", "nodes"))
        self.header(document)
        if "nodes" in document:
            self.nodes(document["nodes"])
        graph = self.graph(document.get("nodes"))
        self.check_references(document.get("nodes"), graph)
        return None if self.problems else self.build(document)

    def build(self, document: dict[str, Any]) -> Definition | None:
        try:
            definition = msgspec.convert(document, Definition)
        except msgspec.ValidationError as error:
            # The passes above are meant to be complete; this says so when they are not.
            self.report("", str(error))
            return None
        if (size := len(encode_definition(definition))) > MAX_BYTES:
            self.report("", f"the definition is {size} bytes of JSON; the limit is {MAX_BYTES}")
        return definition

    def header(self, document: dict[str, Any]) -> None:
        workflow_id = document.get("id")
        if "id" in document and not (isinstance(workflow_id, str) and is_valid_id(workflow_id)):
            self.report("/id", "an id is 1 to 64 letters, digits, '_' or '-'")
        self.optional(document, "", "name", self.text)
        self.optional(document, "", "description", self.text)
        if document.get("input") is not None:
            for path, detail in schema_problems(document["input"]):
                self.report(join("/input", *path), f"not a JSON Schema: {detail}")
        if "output" in document:
            self.template("/output", document["output"], node=None)

    def nodes(self, nodes: Any) -> None:
        if not isinstance(nodes, dict):
            self.report("/nodes", "nodes is an object of nodes by id, or a list beside edges")
            return
        if not nodes:
            self.report("/nodes", "a workflow has at least one node")
        if len(nodes) > MAX_NODES:
            self.report("/nodes", f"{len(nodes)} nodes; the limit is {MAX_NODES}")
            return
        for node_id, node in nodes.items():
            pointer = join("/nodes", node_id)
            if not is_valid_id(node_id):
                self.report(pointer, "a node id is 1 to 64 letters, digits, '_' or '-'")
            if isinstance(node, dict):
                self.node(pointer, node_id, node, nodes)
            else:
                self.report(pointer, "a node is an object with the field type")

    def node(
        self, pointer: str, node_id: str, node: dict[str, Any], nodes: Mapping[str, Any]
    ) -> None:
        self.fields(pointer, node, _NODE_FIELDS, required=("type",))
        self.optional(node, pointer, "name", self.text)
        self.optional(node, pointer, "stage", self.text)
        self.optional(node, pointer, "timeout", self.positive_duration)
        self.optional(node, pointer, "join", self.choice(_JOINS))
        self.optional(node, pointer, "retry", self.retry)
        self.optional(node, pointer, "needs", lambda at, needs: self.needs(at, needs, nodes))
        if "when" in node:
            self.condition(f"{pointer}/when", node["when"], node_id)
        self.node_type(pointer, node_id, node)

    def needs(self, pointer: str, needs: Any, nodes: Mapping[str, Any]) -> None:
        if not isinstance(needs, list):
            self.report(pointer, "needs is a list of node ids")
            return
        seen: set[str] = set()
        for index, need in enumerate(needs):
            at = f"{pointer}/{index}"
            if not isinstance(need, str):
                self.report(at, "needs is a list of node ids")
            elif need not in nodes:
                self.report(at, f"there is no node {need!r}{self.nearest(need, nodes)}")
            elif need in seen:
                self.report(at, f"{need!r} is listed twice")
            else:
                seen.add(need)

    def retry(self, pointer: str, retry: Any) -> None:
        if not isinstance(retry, dict):
            self.report(pointer, f"retry is an object with the fields {', '.join(_RETRY_FIELDS)}")
            return
        self.fields(pointer, retry, _RETRY_FIELDS)
        self.optional(retry, pointer, "max_attempts", self.number(1, 1000, whole=True))
        self.optional(retry, pointer, "factor", self.number(1, 100))
        self.optional(retry, pointer, "initial", self.duration)
        self.optional(retry, pointer, "max", self.duration)
        self.optional(retry, pointer, "jitter", self.boolean)

    def node_type(self, pointer: str, node_id: str, node: dict[str, Any]) -> None:
        parameters = node.get("with", {})
        if not isinstance(parameters, dict):
            self.report(f"{pointer}/with", "with is an object: what the node type takes")
            return
        self.template(f"{pointer}/with", parameters, node=node_id)
        if "type" not in node:
            return
        name = node["type"]
        if not isinstance(name, str) or not is_valid_node_type(name):
            self.report(f"{pointer}/type", "a node type is a name such as transform or po.parse")
            return
        node_type = self.node_types.get(name)
        if node_type is None:
            self.report(
                f"{pointer}/type",
                f"no worker knows the node type {name!r}{self.nearest(name, self.node_types)}",
            )
            return
        self.parameters(f"{pointer}/with", parameters, node_type)

    def parameters(self, pointer: str, given: dict[str, Any], node_type: NodeType) -> None:
        required = [key for key, spec in node_type.parameters.items() if spec.required]
        if not node_type.open:
            self.fields(pointer, given, tuple(node_type.parameters), required=required)
        for keys in node_type.one_of:
            if sum(key in given for key in keys) != 1:
                self.report(pointer, f"{node_type.name} takes one of {' and '.join(keys)}")
        for key, spec in node_type.parameters.items():
            if key in given and not _has_expression(given[key]):
                self.parameter(join(pointer, key), given[key], spec)

    def parameter(self, pointer: str, value: Any, spec: Parameter) -> None:
        if spec.choices:
            self.choice(spec.choices)(pointer, value)
            return
        checks: dict[str, Callable[[str, Any], object]] = {
            "text": self.text,
            "integer": self.number(-(2**53), 2**53, whole=True),
            "number": self.number(-(2.0**53), 2.0**53),
            "boolean": self.boolean,
            "object": self.object,
            "duration": self.duration,
            "timestamp": self.timestamp,
        }
        if check := checks.get(spec.kind):
            check(pointer, value)

    # Expressions

    def condition(self, pointer: str, source: Any, node: str | None) -> None:
        if not isinstance(source, str):
            self.report(pointer, "an expression is written as a text (CEL)")
            return
        try:
            self.expression(pointer, compile_expression(source), node)
        except InvalidExpressionError as error:
            self.report(pointer, f"not valid CEL: {error}")

    def template(self, pointer: str, value: Any, node: str | None) -> None:
        try:
            template = compile_template(value)
        except InvalidTemplateError as invalid:
            for path, error in invalid.errors:
                self.report(join(pointer, *path), f"not valid CEL: {error}")
        except RecursionError:
            self.report(pointer, "nested too deep")
        else:
            for path, expression in template.expressions:
                self.expression(join(pointer, *path), expression, node)

    def expression(self, pointer: str, expression: Expression, node: str | None) -> None:
        for name in sorted(expression.names - set(_NODE_NAMES)):
            self.report(
                pointer,
                f"unknown name {name!r}{self.nearest(name, _NODE_NAMES)}: "
                f"an expression may use {', '.join(_NODE_NAMES)}",
            )
        self.references.append(_Reference(pointer, node, expression))

    def check_references(self, nodes: Any, graph: Graph | None) -> None:
        if not isinstance(nodes, dict) or not any(r.expression.nodes for r in self.references):
            return
        leads_to = graph.ancestry() if graph else None
        for reference in self.references:
            for named in sorted(reference.expression.nodes or ()):
                if named not in nodes:
                    self.report(
                        reference.pointer, f"there is no node {named!r}{self.nearest(named, nodes)}"
                    )
                elif leads_to and reference.node and not leads_to(named, reference.node):
                    self.report(
                        reference.pointer,
                        f"{named!r} need not have run before {reference.node!r}: "
                        f"add it to the needs of {reference.node!r}",
                    )

    # The graph

    def graph(self, nodes: Any) -> Graph | None:
        if not isinstance(nodes, dict):
            return None
        needs = {
            node_id: [
                need
                for need in (node.get("needs") if isinstance(node, dict) else None) or []
                if isinstance(need, str) and need in nodes
            ]
            for node_id, node in nodes.items()
            if not isinstance(node, dict) or isinstance(node.get("needs", []), list)
        }
        if len(needs) < len(nodes):
            return None
        try:
            return sort_graph(needs)
        except CycleError as error:
            last = error.nodes[-1]
            self.report(
                join("/nodes", last, "needs"), f"the nodes need each other in a cycle: {error}"
            )
            return None

    # Values

    def fields(
        self,
        pointer: str,
        value: Mapping[str, Any],
        known: Collection[str],
        required: Iterable[str] = (),
    ) -> None:
        for key in value:
            if key not in known:
                self.report(join(pointer, key), f"unknown field {key!r}{self.nearest(key, known)}")
        for key in required:
            if key not in value:
                self.report(pointer, f"the field {key!r} is missing")

    def optional(
        self, value: Mapping[str, Any], pointer: str, key: str, check: Callable[[str, Any], object]
    ) -> None:
        if key in value:
            check(f"{pointer}/{key}", value[key])

    def text(self, pointer: str, value: Any) -> None:
        if not isinstance(value, str):
            self.report(pointer, "must be a text")

    def boolean(self, pointer: str, value: Any) -> None:
        if not isinstance(value, bool):
            self.report(pointer, "must be true or false")

    def object(self, pointer: str, value: Any) -> None:
        if not isinstance(value, dict):
            self.report(pointer, "must be an object")

    def number(
        self, least: float, most: float, *, whole: bool = False
    ) -> Callable[[str, Any], None]:
        def check(pointer: str, value: Any) -> None:
            kinds = int if whole else (int, float)
            if isinstance(value, bool) or not isinstance(value, kinds):
                self.report(pointer, "must be a whole number" if whole else "must be a number")
            elif not least <= value <= most:
                self.report(pointer, f"must be from {least} to {most}")

        return check

    def choice(self, choices: Collection[str]) -> Callable[[str, Any], None]:
        def check(pointer: str, value: Any) -> None:
            if value not in choices:
                near = self.nearest(value, choices) if isinstance(value, str) else ""
                self.report(pointer, f"must be one of {', '.join(choices)}{near}")

        return check

    def duration(self, pointer: str, value: Any) -> Duration | None:
        try:
            return Duration.parse(value if isinstance(value, str) else repr(value))
        except ValueError as error:
            self.report(pointer, str(error))
            return None

    def positive_duration(self, pointer: str, value: Any) -> None:
        duration = self.duration(pointer, value)
        if duration is not None and not duration:
            self.report(pointer, "must be longer than nothing")

    def timestamp(self, pointer: str, value: Any) -> None:
        if not _is_rfc3339(value):
            self.report(pointer, "must be an RFC 3339 time such as 2024-01-15T10:30:00Z")


def _is_rfc3339(value: Any) -> bool:
    try:
        return datetime.fromisoformat(value).tzinfo is not None
    except (ValueError, TypeError):
        return False


def _has_expression(value: Any) -> bool:
    return isinstance(value, str) and "${" in value


def _nearest(word: str, known: Iterable[str]) -> str:
    matches = difflib.get_close_matches(word, list(known)[:2000], n=1)
    return f", did you mean {matches[0]!r}?" if matches else ""
