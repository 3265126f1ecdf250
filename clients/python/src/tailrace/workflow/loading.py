"""Load the workflows of Python files, and write definitions as Python."""

import contextlib
import importlib.util
import pprint
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tailrace.errors import DefinitionFileError
from tailrace.workflow.builder import Workflow


def load_workflows(path: Path) -> list[dict[str, Any]]:
    """Return the definitions of all workflows in a Python file, in their order.

    Raises:
        DefinitionFileError: the file cannot be imported, or has none.
    """
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if not path.exists():
        raise DefinitionFileError(f"{path}: No such file or directory")
    if spec is None or spec.loader is None:
        raise DefinitionFileError(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    folder = str(path.resolve().parent)
    # It may import modules beside it, as a script does.
    sys.path.insert(0, folder)
    sys.modules.setdefault(path.stem, module)
    try:
        spec.loader.exec_module(module)
        found = [value for value in vars(module).values() if isinstance(value, Workflow)]
        definitions = [workflow.definition() for workflow in dict.fromkeys(found)]
    except SystemExit as error:
        # The exit code would be that of the command.
        raise DefinitionFileError(f"{path}: calls sys.exit({error.code!r}) on import") from None
    # A user's module may raise anything.
    except Exception as error:
        message = " ".join(str(error).split())
        raise DefinitionFileError(f"{path}: {type(error).__name__}: {message}") from error
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(folder)
    if not definitions:
        raise DefinitionFileError(f"{path}: no function with @workflow")
    return definitions


def python_of(definition: Mapping[str, Any]) -> str:
    """Return a Python file whose workflow has the same definition."""
    header = {
        key: value
        for key, value in definition.items()
        if key not in {"id", "nodes", "on_failure", "finally", "output"}
    }
    parts: list[str] = []
    imports = {"step", "workflow"}
    parts += _steps(definition.get("nodes", {}), "    ")
    if (group := definition.get("on_failure")) is not None:
        imports.add("on_failure")
        then = f"then={group['then']!r}" if "then" in group else ""
        parts += [f"    with on_failure({then}):", *_steps(group["nodes"], " " * 8)]
    if (group := definition.get("finally")) is not None:
        imports.add("finally_group")
        parts += ["    with finally_group():", *_steps(group["nodes"], " " * 8)]
    if "output" in definition:
        parts.append(f"    return {_literal(definition['output'], 4)}")
    workflow_id = str(definition.get("id", "workflow"))
    arguments = [repr(workflow_id), *(f"{key}={_literal(each, 0)}" for key, each in header.items())]
    name = re.sub(r"\W", "_", workflow_id)
    name = name if name.isidentifier() else f"workflow_{name}"
    return "\n".join(
        [
            f'"""The workflow {workflow_id}."""',
            "",
            f"from tailrace.workflow import {', '.join(sorted(imports))}",
            "",
            "",
            f"@workflow({', '.join(arguments)})",
            f"def {name}():",
            *parts,
            "",
        ]
    )


def _steps(nodes: Mapping[str, Any], indent: str) -> list[str]:
    return [f"{indent}{_step(node_id, node, len(indent))}" for node_id, node in nodes.items()]


def _step(node_id: str, node: Mapping[str, Any], indent: int) -> str:
    arguments = [repr(node["type"])]
    if "with" in node:
        arguments.append(_literal(node["with"], indent))
    arguments.append(f"id={node_id!r}")
    arguments += [
        f"{key}={_literal(value, indent)}"
        for key, value in node.items()
        if key not in {"type", "with"}
    ]
    return f"step({', '.join(arguments)})"


def _literal(value: Any, indent: int) -> str:
    text = pprint.pformat(value, width=90, sort_dicts=False)
    return text.replace("\n", "\n" + " " * (indent + 4))
