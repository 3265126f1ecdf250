"""The examples, found beside the code and installed through the API like anybody's workflows."""

from collections.abc import Iterator
from typing import Any, Final

from tailrace.client import Client
from tailrace.definition_files import read_definition
from tailrace.local.demo import folder
from tailrace.wfcommons import import_trace

TRACE_SCALE: Final = 0.02
"""Makes the hours of the recorded runs short enough, and the seconds long enough, to watch."""


def definitions() -> Iterator[dict[str, Any]]:
    """Yield the definition of every example."""
    for path in sorted(folder().glob("*/workflow.yaml")):
        yield read_definition(path)
    for path in sorted(folder().glob("traces/*.json")):
        yield import_trace(path.read_bytes(), path.stem, TRACE_SCALE)


def install(url: str, token: str = "", organization: str = "") -> None:
    """Install every example."""
    with Client(url, token, organization=organization) as client:
        for definition in definitions():
            client.apply(definition)
