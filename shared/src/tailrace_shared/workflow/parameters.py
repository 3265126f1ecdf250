"""Check the parameters of nodes against the declarations of their types.

The ``do`` of a map is a node without a name or needs. The same rules apply to it, and its
expressions may also use ``item`` and ``index``.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec

from tailrace_shared.ids import is_valid_id, is_valid_node_type, is_valid_procedure
from tailrace_shared.json_pointer import join_pointer
from tailrace_shared.workflow.expressions.references import NAMES, References, Scope
from tailrace_shared.workflow.http_values import (
    Problem,
    header_problems,
    query_problems,
    status_problems,
)
from tailrace_shared.workflow.node_types import NodeType, Parameter
from tailrace_shared.workflow.problem_report import ProblemReport, without_nulls
from tailrace_shared.workflow.schemas.input_schema import (
    compile_schema,
    schema_problems,
    violations,
)
from tailrace_shared.workflow.sensitive_fields import invalid_keywords

MAX_FORM_BYTES: Final = 64 * 1024
"""Maximum size of a form, which is part of an event."""
MAX_TRIGGERS: Final = 100
MAX_POINTERS: Final = 100

_MATCH_NAMES: Final = ("event", *NAMES)
_ITEM_NAMES: Final = ("item", "index", *NAMES)
_RETRY_FIELDS: Final = ("max_attempts", "initial", "factor", "max", "jitter")
_WORK_FIELDS: Final = ("type", "with", "retry", "timeout", "on_crash", "sensitive")
_NULLABLE_FIELDS: Final = ("retry", "timeout")
_NOT_FOR_ITEMS: Final = ("await", "map")
_ON_CRASH: Final = ("retry", "fail")
_POINTER: Final = re.compile(r"(?:/(?:[^~/]|~[01])*)*")


class ParameterChecks:
    """Checks a node's type, parameters, retry policy and timeout."""

    def __init__(
        self, problems: ProblemReport, references: References, node_types: Mapping[str, NodeType]
    ) -> None:
        self._problems = problems
        self._references = references
        self._node_types = node_types

    def work(self, pointer: str, node: Mapping[str, Any], place: Scope) -> None:
        parameters = node.get("with", {})
        if not isinstance(parameters, dict):
            self._problems.report(f"{pointer}/with", "with must be an object of parameters")
            parameters = None
        node_type = self._type(pointer, node)
        if parameters is None:
            return
        literal = {key for key, spec in node_type.parameters.items() if spec.literal}
        template = {key: value for key, value in parameters.items() if key not in literal}
        self._references.template(f"{pointer}/with", template, _with_secrets(place, node_type))
        if "with" not in node:
            self._missing_parameters(pointer, node_type)
        elif node_type.name:
            self._parameters(f"{pointer}/with", parameters, node_type, place)

    def attempts(self, pointer: str, node: Mapping[str, Any]) -> None:
        self._problems.optional(node, pointer, "retry", self._retry)
        self._problems.optional(node, pointer, "timeout", self._problems.positive_duration)
        self._problems.optional(node, pointer, "on_crash", self._problems.choice(_ON_CRASH))

    def sensitive(self, pointer: str, value: Any) -> None:
        if isinstance(value, bool):
            return
        if not isinstance(value, list):
            self._problems.report(
                pointer, "sensitive must be a boolean or a list of JSON Pointers into the output"
            )
            return
        if len(value) > MAX_POINTERS:
            self._problems.report(pointer, f"{len(value)} pointers; the limit is {MAX_POINTERS}")
        for index, each in enumerate(value[:MAX_POINTERS]):
            if not isinstance(each, str) or not _POINTER.fullmatch(each):
                self._problems.report(
                    f"{pointer}/{index}",
                    "must be a JSON Pointer such as /customer/iban or /rows/*/iban",
                )

    def _type(self, pointer: str, node: Mapping[str, Any]) -> NodeType:
        if "type" not in node:
            return _UNKNOWN
        name = node["type"]
        if not isinstance(name, str) or not is_valid_node_type(name):
            self._problems.report(
                f"{pointer}/type", "a node type must be a name such as transform or po.parse"
            )
            return _UNKNOWN
        node_type = self._node_types.get(name)
        if node_type is None:
            near = self._problems.nearest(name, self._node_types)
            self._problems.report(
                f"{pointer}/type", f"no worker provides the node type {name!r}{near}"
            )
            return _UNKNOWN
        return node_type

    def _missing_parameters(self, pointer: str, node_type: NodeType) -> None:
        takes = [key for key, spec in node_type.parameters.items() if spec.required]
        takes += [f"one of {' or '.join(keys)}" for keys in node_type.one_of]
        if takes:
            self._problems.report(
                pointer,
                f"the field 'with' is missing: {node_type.name} requires {', '.join(takes)}",
            )

    def _parameters(
        self, pointer: str, given: dict[str, Any], node_type: NodeType, place: Scope
    ) -> None:
        required = [key for key, spec in node_type.parameters.items() if spec.required]
        if not node_type.open:
            self._problems.fields(pointer, given, tuple(node_type.parameters), required=required)
        for keys in node_type.one_of:
            if sum(key in given for key in keys) != 1:
                self._problems.report(
                    pointer, f"{node_type.name} requires exactly one of {' or '.join(keys)}"
                )
        for key, spec in node_type.parameters.items():
            if key not in given:
                continue
            if spec.literal and spec.kind != "work":
                self._literal(join_pointer(pointer, key), given[key], spec, place)
            elif spec.literal or not _has_expression(given[key]):
                self._parameter(join_pointer(pointer, key), given[key], spec, place)

    def _literal(self, pointer: str, value: Any, spec: Parameter, place: Scope) -> None:
        before = len(self._problems.found)
        self._parameter(pointer, value, spec, place)
        if len(self._problems.found) == before and "${" in msgspec.json.encode(value).decode():
            self._problems.report(pointer, "expressions are not evaluated here: remove ${…}")

    def _parameter(self, pointer: str, value: Any, spec: Parameter, place: Scope) -> None:
        if spec.choices:
            self._problems.choice(spec.choices)(pointer, value)
            return
        least = -(2**63) if spec.least is None else spec.least
        most = 2**63 - 1 if spec.most is None else spec.most
        checks: dict[str, Callable[[str, Any], object]] = {
            "text": self._problems.text,
            "integer": self._problems.number(least, most, whole=True),
            "number": self._problems.number(
                -math.inf if spec.least is None else spec.least,
                math.inf if spec.most is None else spec.most,
            ),
            "boolean": self._problems.boolean,
            "object": self._problems.object,
            "duration": self._duration(spec),
            "timestamp": self._problems.timestamp,
            "id": self._id,
            "procedure": self._procedure,
            "procedures": self._procedures,
            "schema": self._form,
            "expression": lambda at, source: self._references.expression(at, source, place),
            "match": lambda at, source: self._references.expression(
                at, source, Scope(place.node, _MATCH_NAMES)
            ),
            "headers": lambda at, headers: self._places(at, header_problems(headers)),
            "query": lambda at, query: self._places(at, query_problems(query)),
            "statuses": lambda at, statuses: self._places(at, status_problems(statuses)),
            "work": lambda at, work: self._item_work(at, work, Scope(place.node, _ITEM_NAMES)),
        }
        if check := checks.get(spec.kind):
            check(pointer, value)
        is_kind = spec.kind != "object" or isinstance(value, dict)
        if spec.schema is not None and is_kind and b"${" not in msgspec.json.encode(value):
            for problem in violations(compile_schema(spec.schema), "", value):
                self._problems.report(
                    f"{pointer}{problem.pointer.removeprefix('/')}", problem.detail
                )

    def _places(self, pointer: str, problems: Iterable[Problem]) -> None:
        for path, detail in problems:
            self._problems.report(join_pointer(pointer, *path), detail)

    def _duration(self, spec: Parameter) -> Callable[[str, Any], None]:
        def check(pointer: str, value: Any) -> None:
            duration = self._problems.duration(pointer, value)
            if duration is not None and spec.most is not None and duration > spec.most:
                self._problems.report(
                    pointer, f"must not be longer than {type(duration)(spec.most)}"
                )

        return check

    def _id(self, pointer: str, value: Any) -> None:
        if not isinstance(value, str) or not is_valid_id(value):
            self._problems.report(pointer, "an id must be 1 to 64 letters, digits, '_' or '-'")

    def _procedure(self, pointer: str, value: Any) -> None:
        if not isinstance(value, str) or not is_valid_procedure(value):
            self._problems.report(
                pointer, "a procedure must be ids joined by dots, at most 128 characters"
            )

    def _procedures(self, pointer: str, value: Any) -> None:
        if not isinstance(value, list):
            self._problems.report(pointer, "must be a list of procedures")
            return
        if len(value) > MAX_TRIGGERS:
            self._problems.report(pointer, f"{len(value)} procedures; the limit is {MAX_TRIGGERS}")
        for index, procedure in enumerate(value[:MAX_TRIGGERS]):
            self._procedure(f"{pointer}/{index}", procedure)

    def _form(self, pointer: str, value: Any) -> None:
        for path, detail in schema_problems(value):
            self._problems.report(join_pointer(pointer, *path), f"not a JSON Schema: {detail}")
        for misuse in invalid_keywords(value):
            self._problems.report(join_pointer(pointer, *misuse.path), misuse.detail)
        if (size := len(msgspec.json.encode(value))) > MAX_FORM_BYTES:
            self._problems.report(
                pointer, f"the form is {size} bytes of JSON; the limit is {MAX_FORM_BYTES}"
            )

    def _item_work(self, pointer: str, work: Any, place: Scope) -> None:
        if not isinstance(work, dict):
            self._problems.report(
                pointer, "do must be an object that describes the work for each item"
            )
            return
        work = without_nulls(work, _NULLABLE_FIELDS)
        self._problems.fields(pointer, work, _WORK_FIELDS, required=("type",))
        self._problems.optional(work, pointer, "sensitive", self.sensitive)
        self.attempts(pointer, work)
        if work.get("type") in _NOT_FOR_ITEMS:
            self._problems.report(
                f"{pointer}/type",
                f"a map cannot run {work['type']} for its items; "
                "a node of type workflow can start a separate run for each item",
            )
            return
        self.work(pointer, work, place)

    def _retry(self, pointer: str, retry: Any) -> None:
        if not isinstance(retry, dict):
            fields = ", ".join(_RETRY_FIELDS)
            self._problems.report(pointer, f"retry must be an object with the fields {fields}")
            return
        optional = self._problems.optional
        self._problems.fields(pointer, retry, _RETRY_FIELDS)
        optional(retry, pointer, "max_attempts", self._problems.number(1, 1000, whole=True))
        optional(retry, pointer, "factor", self._problems.number(1, 100))
        optional(retry, pointer, "initial", self._problems.duration)
        optional(retry, pointer, "max", self._problems.duration)
        optional(retry, pointer, "jitter", self._problems.boolean)


# An unknown type is reported once; its parameters are not checked.
_UNKNOWN: Final = NodeType("", secrets=True)


def _with_secrets(place: Scope, node_type: NodeType) -> Scope:
    return place._replace(
        no_secrets=""
        if node_type.secrets
        else f"{node_type.name} takes no secrets, because its parameters are recorded; "
        "use http or a custom node function"
    )


def _has_expression(value: Any) -> bool:
    return isinstance(value, str) and "${" in value
