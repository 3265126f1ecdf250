"""What a definition may say in a node's ``with``, for each node type, as data.

The shipped types are listed here. Workers publish what their users' functions take in the same
form, so the API can validate definitions without importing anybody's code.
"""

from typing import Final, Literal

import msgspec

Kind = Literal["any", "text", "integer", "number", "boolean", "object", "duration", "timestamp"]


class Parameter(msgspec.Struct, frozen=True, omit_defaults=True):
    """One key of ``with``.

    Attributes:
        kind: what a literal value must be; an expression may give anything.
        required: whether it may be left out.
        choices: the texts that are allowed, if not all.
    """

    kind: Kind = "any"
    required: bool = False
    choices: list[str] = []


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
    """

    name: str
    parameters: dict[str, Parameter] = {}
    open: bool = False
    one_of: list[list[str]] = []
    summary: str = ""
    actor: bool = False


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
        ),
        NodeType(
            "delay",
            {"duration": Parameter("duration"), "until": Parameter("timestamp")},
            one_of=[["duration", "until"]],
            summary="Waits, holding no worker.",
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
