"""Validate a workflow definition, and report all problems at once with their positions.

Three passes check the structure (fields and types), the expressions, and the graph. A pass skips
what an earlier one found to be invalid. The input is untrusted JSON; the result is a canonical
:class:`~tailrace_shared.workflow.definition.Definition`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from tailrace_shared.ids import is_valid_id
from tailrace_shared.json_pointer import join_pointer
from tailrace_shared.workflow import editor, pace
from tailrace_shared.workflow.definition import MAX_TAGS, Definition, MapWork, encode_definition
from tailrace_shared.workflow.expressions.references import Readable, References, Scope
from tailrace_shared.workflow.graph import CycleError, Graph, sort_graph
from tailrace_shared.workflow.node_types import SHIPPED, NodeType
from tailrace_shared.workflow.parameters import ParameterChecks
from tailrace_shared.workflow.problem_report import (
    MAX_HINTS,
    MAX_PROBLEMS,
    Problem,
    ProblemReport,
    without_nulls,
)
from tailrace_shared.workflow.schedule_specs import check_schedules
from tailrace_shared.workflow.schemas.input_schema import schema_problems
from tailrace_shared.workflow.sensitive_fields import invalid_keywords

__all__ = [
    "MAX_BYTES",
    "MAX_HINTS",
    "MAX_NODES",
    "MAX_PROBLEMS",
    "Problem",
    "Validated",
    "tag_problems",
    "validate",
]

MAX_NODES: Final = 10_000
MAX_BYTES: Final = 1024 * 1024
MAX_CONCURRENCY: Final = 1000

_JOINS: Final = ("all", "any", "all_done", "all_success")
_ON_ERROR: Final = ("fail", "continue")
_THEN: Final = ("failed", "completed")
_ON_TIMEOUT: Final = ("cancel", "fail", "continue")
_ON_LIMIT: Final = ("queue", "cancel_running", "cancel_new")
_DEFINITION_FIELDS: Final = (
    *("id", "name", "description", "input", "output", "concurrency", "nodes", "timeout"),
    *("on_failure", "finally", "tags", "defaults", "schedules"),
)
_NODE_FIELDS: Final = (
    *("type", "name", "with", "needs", "when", "join", "stage", "retry", "timeout"),
    *("on_timeout", "on_crash", "on_error", "sensitive"),
)
_NULLABLE_FIELDS: Final = ("when", "stage", "retry", "timeout", "on_timeout")
_ITEM_FIELDS: Final = ("retry", "timeout", "on_crash")
_GROUP_FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "on_failure": ("nodes", "then"),
    "finally": ("nodes",),
}


class Validated(NamedTuple):
    """The result of a validation: a definition, or the problems of an invalid one."""

    definition: Definition | None
    problems: list[Problem]


def tag_problems(tags: Any, limit: int) -> Iterator[tuple[list[int], str]]:
    """Yield what is wrong with a list of tags: the path of each problem below it, and a sentence.

    Args:
        tags: the value to check.
        limit: the maximum number of tags.
    """
    if not isinstance(tags, list):
        yield [], "tags must be a list of strings"
        return
    if len(tags) > limit:
        yield [], f"{len(tags)} tags; the limit is {MAX_TAGS}, those of the definition included"
        return
    for index, tag in enumerate(tags):
        if not (isinstance(tag, str) and is_valid_id(tag)):
            yield [index], "a tag must be 1 to 64 letters, digits, '_' or '-'"
        elif tag in tags[:index]:
            yield [index], f"the tag {tag!r} is listed twice"


def validate(
    document: Any, node_types: Mapping[str, NodeType] = SHIPPED, *, workflow_id: str | None = None
) -> Validated:
    """Validate a definition.

    Args:
        workflow_id: the id under which it will be stored; None takes it from the document.
    """
    validation = _Validation(node_types)
    definition = validation.run(document, workflow_id)
    found = validation.problems.found
    return Validated(None if found else definition, found)


class _Validation:
    def __init__(self, node_types: Mapping[str, NodeType]) -> None:
        self.node_types = node_types
        self.problems = ProblemReport()
        self.report = self.problems.report
        self.references = References(self.problems)
        self.parameters = ParameterChecks(self.problems, self.references, node_types)

    def run(self, document: Any, workflow_id: str | None) -> Definition | None:
        if not isinstance(document, dict):
            self.report("", "a definition must be an object with the fields id and nodes")
            return None
        document = dict(document)
        if workflow_id is not None and document.setdefault("id", workflow_id) != workflow_id:
            self.report(
                "/id", f"the id must be {workflow_id!r}, under which the definition is stored"
            )
        if isinstance(document.get("nodes"), list):
            document, problems, places = editor.to_canonical(document)
            for pointer, detail in problems:
                self.report(pointer, detail)
            self.problems.places = places
        # What an editor adds for itself.
        document.pop("viewport", None)
        self.problems.fields("", document, _DEFINITION_FIELDS, required=("id", "nodes"))
        self.header(document)
        parts: dict[str | None, Any] = {}
        if "nodes" in document:
            parts[None] = document["nodes"]
        parts |= self.groups(document)
        self.unique(parts)
        readable: list[Readable] = []
        for group, nodes in parts.items():
            self.nodes(group, nodes, parts)
        for group, nodes in parts.items():
            if isinstance(nodes, dict):
                graph = self.graph(group, nodes)
                readable.append(Readable(nodes, graph.ancestry() if graph else None))
        self.count(readable)
        if None in parts and isinstance(parts[None], dict):
            self.references.check_nodes(readable)
            self.references.check_outputs(
                {node_id: node for part in readable for node_id, node in part.nodes.items()},
                self.node_types,
            )
        self.references.check_input(document.get("input"))
        return None if self.problems.found else self.build(document)

    def build(self, document: dict[str, Any]) -> Definition | None:
        try:
            definition = msgspec.convert(document, Definition)
            for node in definition.all_nodes.values():
                if node.type == "map":
                    msgspec.convert(node.parameters, MapWork)
        except msgspec.ValidationError as error:
            # The passes above should find all problems. This reports what they miss.
            self.report("", str(error))
            return None
        if (size := len(encode_definition(definition))) > MAX_BYTES:
            self.report("", f"the definition is {size} bytes of JSON; the limit is {MAX_BYTES}")
        return definition

    def header(self, document: dict[str, Any]) -> None:
        workflow_id = document.get("id")
        if "id" in document and not (isinstance(workflow_id, str) and is_valid_id(workflow_id)):
            self.report("/id", "an id must be 1 to 64 letters, digits, '_' or '-'")
        self.problems.optional(document, "", "name", self.problems.text)
        self.problems.optional(document, "", "description", self.problems.text)
        self.problems.optional(document, "", "tags", self.tags)
        if document.get("input") is not None:
            for path, detail in schema_problems(document["input"]):
                self.report(join_pointer("/input", *path), f"not a JSON Schema: {detail}")
            for misuse in invalid_keywords(document["input"]):
                self.report(join_pointer("/input", *misuse.path), misuse.detail)
        if "output" in document:
            self.references.template("/output", document["output"], Scope(node=None))
        if document.get("concurrency") is not None:
            self.concurrency("/concurrency", document["concurrency"])
        if document.get("timeout") is not None:
            self.problems.positive_duration("/timeout", document["timeout"])
        if document.get("defaults") is not None:
            self.defaults("/defaults", document["defaults"])
        if document.get("schedules") is not None:
            check_schedules(self.problems, "/schedules", document["schedules"])

    def tags(self, pointer: str, tags: Any) -> None:
        for place, detail in tag_problems(tags, MAX_TAGS):
            self.report(join_pointer(pointer, *place), detail)

    def defaults(self, pointer: str, defaults: Any) -> None:
        if not isinstance(defaults, dict):
            self.report(pointer, "defaults must be an object with the fields retry and timeout")
            return
        defaults = without_nulls(defaults, ("retry", "timeout"))
        self.problems.fields(pointer, defaults, ("retry", "timeout"))
        self.parameters.attempts(pointer, defaults)

    def groups(self, document: Mapping[str, Any]) -> dict[str | None, Any]:
        """Check the groups, except for their nodes; return these by group."""
        found: dict[str | None, Any] = {}
        for group, fields in _GROUP_FIELDS.items():
            value = document.get(group)
            if value is None:
                continue
            if not isinstance(value, dict):
                self.report(f"/{group}", f"{group} must be an object with the field nodes")
                continue
            self.problems.fields(f"/{group}", value, fields, required=("nodes",))
            self.problems.optional(value, f"/{group}", "then", self.problems.choice(_THEN))
            if "nodes" in value:
                found[group] = value["nodes"]
        return found

    def unique(self, parts: Mapping[str | None, Any]) -> None:
        known: dict[str, str] = {}
        for group, nodes in parts.items():
            for node_id in nodes if isinstance(nodes, dict) else ():
                pointer = join_pointer(_pointer_of(group), node_id)
                if (first := known.setdefault(node_id, pointer)) != pointer:
                    self.report(pointer, f"there is another node {node_id!r} at {first}")

    def count(self, parts: Sequence[Readable]) -> None:
        total = sum(len(part.nodes) for part in parts)
        if len(parts) > 1 and total > MAX_NODES:
            self.report("", f"{total} nodes; the limit is {MAX_NODES}")

    def concurrency(self, pointer: str, concurrency: Any) -> None:
        if not isinstance(concurrency, dict):
            self.report(
                pointer, "concurrency must be an object with the fields limit, key and on_limit"
            )
            return
        self.problems.fields(
            pointer, concurrency, ("limit", "key", "on_limit"), required=("limit",)
        )
        limit = self.problems.number(1, MAX_CONCURRENCY, whole=True)
        self.problems.optional(concurrency, pointer, "limit", limit)
        self.problems.optional(concurrency, pointer, "on_limit", self.problems.choice(_ON_LIMIT))
        # The key is evaluated before the run starts, when only its input is known.
        if concurrency.get("key") is not None:
            before = Scope(None, ("input",))
            self.references.expression(f"{pointer}/key", concurrency["key"], before)

    def nodes(self, group: str | None, nodes: Any, parts: Mapping[str | None, Any]) -> None:
        at = _pointer_of(group)
        if not isinstance(nodes, dict):
            forms = (
                "an object of nodes by id"
                if group
                else ("an object of nodes by id, or a list together with edges")
            )
            self.report(at, f"nodes must be {forms}")
            return
        if not nodes:
            self.report(at, f"{group or 'a workflow'} must have at least one node")
        if len(nodes) > MAX_NODES:
            self.report(at, f"{len(nodes)} nodes; the limit is {MAX_NODES}")
            return
        for node_id, node in nodes.items():
            pointer = join_pointer(at, node_id)
            if not is_valid_id(node_id):
                self.report(pointer, "a node id must be 1 to 64 letters, digits, '_' or '-'")
            if isinstance(node, dict):
                self.node(pointer, node_id, node, group, parts)
                if group == "finally" and node.get("type") == "await" and "timeout" not in node:
                    self.report(
                        pointer,
                        "an await in finally must have a timeout, because a cancellation does "
                        "not end it",
                    )
            else:
                self.report(pointer, "a node must be an object with the field type")

    def node(
        self,
        pointer: str,
        node_id: str,
        node: dict[str, Any],
        group: str | None,
        parts: Mapping[str | None, Any],
    ) -> None:
        pace.pause()
        optional, place = self.problems.optional, Scope(node_id)
        # An optional field may be null, as the OpenAPI document says; it then counts as absent.
        node = without_nulls(node, _NULLABLE_FIELDS)
        self.problems.fields(pointer, node, _NODE_FIELDS, required=("type",))
        optional(node, pointer, "name", self.problems.text)
        optional(node, pointer, "stage", self.problems.text)
        optional(node, pointer, "join", self.problems.choice(_JOINS))
        optional(node, pointer, "needs", lambda at, needs: self.needs(at, needs, group, parts))
        optional(node, pointer, "on_error", self.problems.choice(_ON_ERROR))
        if "when" in node:
            self.references.expression(f"{pointer}/when", node["when"], place)
        optional(node, pointer, "sensitive", self.parameters.sensitive)
        self.endings(pointer, node)
        self.parameters.work(pointer, node, place)

    def endings(self, pointer: str, node: dict[str, Any]) -> None:
        if node.get("type") == "map":
            for field in _ITEM_FIELDS:
                if field in node:
                    self.report(
                        f"{pointer}/{field}",
                        f"a map takes no {field}; put it into with.do, for each item",
                    )
        else:
            self.parameters.attempts(pointer, node)
        if "on_timeout" not in node:
            return
        self.problems.choice(_ON_TIMEOUT)(f"{pointer}/on_timeout", node["on_timeout"])
        if node.get("type") != "await":
            self.report(
                f"{pointer}/on_timeout",
                "on_timeout is allowed on await only; other nodes fail after their timeout",
            )

    def needs(
        self, pointer: str, needs: Any, group: str | None, parts: Mapping[str | None, Any]
    ) -> None:
        nodes = parts[group]
        if not isinstance(needs, list):
            self.report(pointer, "needs must be a list of node ids")
            return
        seen: set[str] = set()
        for index, need in enumerate(needs):
            at = f"{pointer}/{index}"
            if not isinstance(need, str):
                self.report(at, "needs must be a list of node ids")
            elif need not in nodes and (other := _part_with(need, parts)):
                self.report(
                    at,
                    f"{need!r} is in {other}, and needs may only name nodes of the same part: "
                    "on_failure and finally begin after all nodes of the parts before them",
                )
            elif need not in nodes:
                near = self.problems.nearest(need, nodes)
                self.report(at, f"there is no node {need!r}{near}")
            elif need in seen:
                self.report(at, f"{need!r} is listed twice")
            else:
                seen.add(need)

    def graph(self, group: str | None, nodes: Mapping[str, Any]) -> Graph | None:
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
                join_pointer(_pointer_of(group), last, "needs"),
                f"the nodes need each other in a cycle: {error}",
            )
            return None


def _pointer_of(group: str | None) -> str:
    return "/nodes" if group is None else f"/{group}/nodes"


def _part_with(node: str, parts: Mapping[str | None, Any]) -> str:
    for group, nodes in parts.items():
        if isinstance(nodes, dict) and node in nodes:
            return group or "nodes"
    return ""
