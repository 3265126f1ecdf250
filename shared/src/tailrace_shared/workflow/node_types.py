"""Declare the parameters that each node type takes in ``with``.

The built-in types are declared here. Workers publish the parameters of custom node functions in
the same form, so the API validates definitions without importing user code.
"""

from typing import Any, Final, Literal

import msgspec

Kind = Literal[
    "any",
    "text",
    "integer",
    "number",
    "boolean",
    "object",
    "duration",
    "timestamp",
    "id",  # of a workflow
    "procedure",  # the name of a trigger
    "procedures",
    "schema",  # JSON Schema
    "expression",  # bare CEL
    "match",  # bare CEL that may use `event`
    "work",  # the `do` of a map
    "headers",  # of an HTTP request
    "query",
    "statuses",  # a status or a list of them
]
_DAY: Final = 86400


class Parameter(msgspec.Struct, frozen=True, omit_defaults=True):
    """One parameter of a node type.

    Attributes:
        kind: type of a literal value; the value of an expression is not checked.
        required: whether the parameter must be present.
        choices: allowed texts; empty allows all.
        literal: whether ``${…}`` is not evaluated in it.
        least: minimum of a number.
        most: maximum of a number, or of a duration in seconds.
        schema: JSON Schema of a literal value, in addition to its kind.
    """

    kind: Kind = "any"
    required: bool = False
    choices: list[str] = []
    literal: bool = False
    least: int | None = None
    most: int | None = None
    schema: dict[str, Any] | None = None


class NodeType(msgspec.Struct, frozen=True, omit_defaults=True):
    """The declaration of a node type.

    Attributes:
        open: whether it takes further parameters.
        one_of: groups of parameters of which exactly one must be present.
        summary: one sentence for users.
        actor: whether its function is an actor with a queue of its own. Other functions run in the
            worker that drives the execution.
        secrets: whether its parameters may contain secrets, which requires that they are not
            recorded.
        output: JSON Schema of the output; None if it is unknown.
    """

    name: str
    parameters: dict[str, Parameter] = {}
    open: bool = False
    one_of: list[list[str]] = []
    summary: str = ""
    actor: bool = False
    secrets: bool = False
    output: dict[str, Any] | None = None


SHIPPED: Final[dict[str, NodeType]] = {
    node_type.name: node_type
    for node_type in (
        NodeType(
            "transform",
            {"value": Parameter(required=True)},
            summary="Evaluates the expressions in a JSON value; the output is the result.",
        ),
        NodeType(
            "http",
            {
                "method": Parameter(
                    "text", choices=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
                ),
                "url": Parameter("text", required=True),
                "headers": Parameter("headers"),
                "query": Parameter("query"),
                "json": Parameter(),
                "body": Parameter("text"),
                "expect_status": Parameter("statuses"),
            },
            summary="Sends one HTTP request; the output is the status, headers and body.",
            secrets=True,
        ),
        NodeType(
            "delay",
            {"duration": Parameter("duration"), "until": Parameter("timestamp")},
            one_of=[["duration", "until"]],
            summary="Waits without occupying a worker.",
        ),
        NodeType(
            "await",
            {
                "reason": Parameter("text"),
                "triggers": Parameter("procedures", literal=True),
                "match": Parameter("match", literal=True),
                # The retention of triggers.
                "lookback": Parameter("duration", literal=True, most=_DAY),
                "form": Parameter("schema", literal=True),
                "on_reject": Parameter("text", choices=["continue", "fail"], literal=True),
            },
            summary="Waits for a decision or a trigger; the output is the data of the signal.",
        ),
        NodeType(
            "map",
            {
                "for_each": Parameter("expression", required=True, literal=True),
                "do": Parameter("work", required=True, literal=True),
                "max_parallel": Parameter("integer", literal=True, least=1, most=1000),
                "on_error": Parameter("text", choices=["fail", "collect"], literal=True),
            },
            summary="Runs a node for each item of a list; the output lists their outputs.",
        ),
        NodeType(
            "workflow",
            {"id": Parameter("id", required=True), "input": Parameter()},
            summary="Runs another workflow; the output is the output of that run.",
        ),
        NodeType(
            "emit",
            {"procedure": Parameter("procedure", required=True), "data": Parameter()},
            summary="Sends a trigger; the output is the number of steps that it resumed.",
        ),
        NodeType(
            "log",
            {
                "message": Parameter(required=True),
                "level": Parameter("text", choices=["debug", "info", "warning", "error"]),
            },
            summary="Writes a log line of the execution.",
        ),
        NodeType("fail", {"message": Parameter(required=True)}, summary="Fails with a message."),
        NodeType(
            "simulate",
            {
                "duration": Parameter("duration"),
                "progress": Parameter("boolean"),
                "fail_rate": Parameter("number"),
                "seed": Parameter("integer"),
            },
            summary="Sleeps to simulate work; fails at a configurable rate.",
        ),
    )
}
