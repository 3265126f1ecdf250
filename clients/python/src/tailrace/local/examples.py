"""The examples, found beside the code and installed through the API like anybody's workflows."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from tailrace.client import Client
from tailrace.definition_files import read_definition
from tailrace.errors import StartError
from tailrace.wfcommons import import_trace

TRACE_SCALE: Final = 0.02
"""Makes the hours of the recorded runs short enough, and the seconds long enough, to watch."""

_NODES: Final = "purchase_order.nodes"


def folder() -> Path:
    """Return the folder of the examples: in the installed package, or in a checkout.

    Raises:
        StartError: this installation has none.
    """
    package = Path(__file__).parents[1]
    checkout = package.parents[3]
    for candidate in (package / "examples", checkout / "examples"):
        if (candidate / "purchase_order").is_dir():
            return candidate
    raise StartError("this installation of Tailrace has no examples; leave --demo out")


def definitions() -> Iterator[dict[str, Any]]:
    """Yield the definition of every example."""
    for path in sorted(folder().glob("*/workflow.yaml")):
        yield read_definition(path)
    for path in sorted(folder().glob("traces/*.json")):
        yield import_trace(path.read_bytes(), path.stem, TRACE_SCALE)


def install(url: str) -> None:
    """Install every example."""
    with Client(url) as client:
        for definition in definitions():
            client.apply(definition)


def worker_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return ``environment`` with the examples' node types added to those that it names."""
    modules = [environment.get("TAILRACE_NODES", ""), _NODES]
    paths = [str(folder()), environment.get("PYTHONPATH", "")]
    return {
        **environment,
        "TAILRACE_NODES": ",".join(filter(None, modules)),
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
    }
