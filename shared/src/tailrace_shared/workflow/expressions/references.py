"""The expressions of a definition: that each is CEL, and names only what there is where it stands.

Whether a node may be named is known only when the graph is: a node must have run before, so
references are kept until then.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from tailrace_shared.errors import InvalidExpressionError
from tailrace_shared.ids import is_valid_id
from tailrace_shared.json_pointer import join_pointer
from tailrace_shared.workflow.expressions.expression import Expression, compile_expression
from tailrace_shared.workflow.expressions.template import InvalidTemplateError, compile_template
from tailrace_shared.workflow.graph import Graph
from tailrace_shared.workflow.problem_report import ProblemReport

NAMES: Final = ("input", "nodes", "execution")
"""What every expression of a node, and of the output, may name."""


_RECORDED: Final = (
    "a secret must not be named here, because what comes of it is recorded: "
    "name it in the `with` of a node that uses it, such as http"
)


class Scope(NamedTuple):
    """Where an expression stands, as far as that decides what it may name.

    Attributes:
        node: the node; None outside of nodes.
        names: what may be named there.
        no_secrets: why a secret may not be named there; empty where one may.
    """

    node: str | None
    names: Sequence[str] = NAMES
    no_secrets: str = _RECORDED


class _Reference(NamedTuple):
    pointer: str
    node: str | None
    expression: Expression


class References:
    """Checks the expressions of one definition, and remembers which nodes they name."""

    def __init__(self, problems: ProblemReport) -> None:
        self._problems = problems
        self._references: list[_Reference] = []

    def expression(self, pointer: str, source: Any, place: Scope) -> None:
        """Check a bare expression."""
        if not isinstance(source, str):
            self._problems.report(pointer, "an expression is written as a text (CEL)")
            return
        if source.lstrip().startswith("${"):
            self._problems.report(pointer, "an expression stands bare here: leave out ${ and }")
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
            self._problems.report(pointer, "nested too deep")
        else:
            for path, expression in template.expressions:
                self._add(join_pointer(pointer, *path), expression, place)

    def _add(self, pointer: str, expression: Expression, place: Scope) -> None:
        if "secrets" in expression.names:
            self._check_secret(pointer, expression, place)
        for name in sorted(expression.names - {*place.names, "secrets"}):
            self._problems.report(
                pointer,
                f"unknown name {name!r}{self._problems.nearest(name, place.names)}: "
                f"an expression may use {', '.join(place.names)}"
                f"{'' if place.names is NAMES else ' here'}",
            )
        self._references.append(_Reference(pointer, place.node, expression))

    def _check_secret(self, pointer: str, expression: Expression, place: Scope) -> None:
        if place.no_secrets:
            self._problems.report(pointer, place.no_secrets)
        elif expression.secret is None:
            # What is computed with a secret could not be recognised any more, and kept secret.
            self._problems.report(
                pointer,
                "a secret stands alone, as ${secrets.name}, which may be a part of a longer text: "
                "nothing can be computed with it",
            )
        elif not is_valid_id(expression.secret):
            self._problems.report(pointer, "a secret's name is at most 64 characters long")

    def check_nodes(self, nodes: Mapping[str, Any], graph: Graph | None) -> None:
        """Check that the nodes that are named exist, and have run before they are asked for."""
        if not any(reference.expression.nodes for reference in self._references):
            return
        leads_to = graph.ancestry() if graph else None
        for pointer, node, expression in self._references:
            for named in sorted(expression.nodes or ()):
                if named not in nodes:
                    near = self._problems.nearest(named, nodes)
                    self._problems.report(pointer, f"there is no node {named!r}{near}")
                elif leads_to and node and not leads_to(named, node):
                    self._problems.report(
                        pointer,
                        f"{named!r} need not have run before {node!r}: "
                        f"add it to the needs of {node!r}",
                    )
