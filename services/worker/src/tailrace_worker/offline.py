"""Check definitions without a server: ``python -m tailrace_worker.offline``.

``validate`` reads a JSON list of definitions from standard input and prints a list of their
problems; ``schema`` prints the JSON Schema of definitions; ``nodes`` prints the node types. They
know the shipped node types, those of ``TAILRACE_NODES`` and those of installed entry points.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from tailrace_shared.errors import StartupError
from tailrace_shared.workflow.editor_schema import definition_schema
from tailrace_shared.workflow.node_types import SHIPPED, NodeType
from tailrace_shared.workflow.validation import validate
from tailrace_worker.nodes.registry import load_registry


def main(arguments: Sequence[str], environment: Mapping[str, str] = os.environ) -> int:
    """Run a command; return its exit code: 0, or 2 if user modules cannot be loaded."""
    try:
        known = local_node_types(environment)
    except StartupError as error:
        sys.stderr.write(f"tailrace: {error}\n")
        return 2
    answer: Any
    match arguments:
        case ["validate"]:
            documents = msgspec.json.decode(sys.stdin.buffer.read(), type=list[Any])
            answer = [validate(document, known).problems for document in documents]
        case ["schema"]:
            answer = definition_schema(known)
        case ["nodes"]:
            answer = sorted(known.values(), key=lambda node_type: node_type.name)
        case _:
            sys.stderr.write("usage: python -m tailrace_worker.offline validate|schema|nodes\n")
            return 2
    sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
    return 0


def local_node_types(environment: Mapping[str, str]) -> dict[str, NodeType]:
    """Return the node types that can be imported here.

    Raises:
        StartupError: a user's module cannot be imported.
    """
    registry = load_registry(environment.get("TAILRACE_NODES", ""))
    return {**{function.type.name: function.type for function in registry}, **SHIPPED}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
