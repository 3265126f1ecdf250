"""What a definition may say in a node's ``with``, for each node type, as data.

The shipped types are listed here. Workers publish what their users' functions take in the same
form, so the API can validate definitions without importing anybody's code.
"""

from typing import Final, Literal

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
    "procedure",  # what a trigger is called
    "procedures",
    "schema",  # JSON Schema
    "expression",  # bare CEL
    "match",  # bare CEL that may name the event
    "work",  # what a map does for each item
]
_DAY: Final = 86400


class Parameter(msgspec.Struct, frozen=True, omit_defaults=True):
    """One key of ``with``.

    Attributes:
        kind: what a literal value must be; an expression may give anything.
        required: whether it may be left out.
        choices: the texts that are allowed, if not all.
        literal: whether it is taken as it is written: ``${…}`` means nothing in it.
        least: the smallest number that is allowed.
        most: the largest number, or the longest duration in seconds.
    """

    kind: Kind = "any"
    required: bool = False
    choices: list[str] = []
    literal: bool = False
    least: int | None = None
    most: int | None = None


class NodeType(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is known of a node type without its code.

    Attributes:
        name: as written in a definition.
        parameters: the keys of ``with`` that it takes.
        open: whether it takes other keys too.
        one_of: sets of keys of which exactly one key must be given.
        summary: one sentence for people.
        actor: whether its function is an actor on a queue of its own, not run by whoever drives
            the execution.
        secrets: whether it may be given secrets: nothing of what it is given is recorded.
    """

    name: str
    parameters: dict[str, Parameter] = {}
    open: bool = False
    one_of: list[list[str]] = []
    summary: str = ""
    actor: bool = False
    secrets: bool = False


SHIPPED: Final[dict[str, NodeType]] = {
    node_type.name: node_type
    for node_type in (
        NodeType(
            "transform",
            {"value": Parameter(required=True)},
            summary="Any JSON, expressions inside; its output is that value.",
        ),
        NodeType(
            "http",
            {
                "method": Parameter(
                    "text", choices=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
                ),
                "url": Parameter("text", required=True),
                "headers": Parameter("object"),
                "query": Parameter("object"),
                "json": Parameter(),
                "body": Parameter("text"),
                "expect_status": Parameter(),
            },
            summary="Sends one HTTP request; its output is the status, headers and body.",
            secrets=True,
        ),
        NodeType(
            "delay",
            {"duration": Parameter("duration"), "until": Parameter("timestamp")},
            one_of=[["duration", "until"]],
            summary="Waits, holding no worker.",
        ),
        NodeType(
            "await",
            {
                "reason": Parameter("text"),
                "triggers": Parameter("procedures", literal=True),
                "match": Parameter("match", literal=True),
                # Triggers are kept that long.
                "lookback": Parameter("duration", literal=True, most=_DAY),
                "form": Parameter("schema", literal=True),
                "on_reject": Parameter("text", choices=["continue", "fail"], literal=True),
            },
            summary="Waits for a decision or a trigger; its output is what came.",
        ),
        NodeType(
            "map",
            {
                "for_each": Parameter("expression", required=True, literal=True),
                "do": Parameter("work", required=True, literal=True),
                "max_parallel": Parameter("integer", literal=True, least=1, most=1000),
                "on_error": Parameter("text", choices=["fail", "collect"], literal=True),
            },
            summary="Does the same for each item of a list; its output is theirs, in order.",
        ),
        NodeType(
            "workflow",
            {"id": Parameter("id", required=True), "input": Parameter()},
            summary="Runs another workflow; its output is that run's.",
        ),
        NodeType(
            "emit",
            {"procedure": Parameter("procedure", required=True), "data": Parameter()},
            summary="Sends a trigger; its output tells how many steps it met.",
        ),
        NodeType(
            "log",
            {
                "message": Parameter(required=True),
                "level": Parameter("text", choices=["debug", "info", "warning", "error"]),
            },
            summary="Writes a line to the execution's log.",
        ),
        NodeType(
            "fail",
            {"message": Parameter(required=True)},
            summary="Fails with a message.",
        ),
        NodeType(
            "simulate",
            {
                "duration": Parameter("duration"),
                "progress": Parameter("boolean"),
                "fail_rate": Parameter("number"),
                "seed": Parameter("integer"),
            },
            summary="Sleeps as if it worked; fails as often as asked.",
        ),
    )
}
