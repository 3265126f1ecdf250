"""Install the examples through the API, like workflows of users."""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from tailrace.client import Client
from tailrace.definition_files import read_definition
from tailrace.local.demo import folder
from tailrace.wfcommons import import_trace

_API_URL: Final = "http://127.0.0.1:8080"
"""The URL of the API in the definitions of the examples."""
_TRACE_SCALE: Final = 0.02
"""Factor on recorded durations that makes the runs short but visible."""


def definitions() -> Iterator[dict[str, Any]]:
    """Yield the definition of every example."""
    for path in sorted(folder().glob("*/workflow.yaml")):
        yield read_definition(path)
    for path in sorted(folder().glob("traces/*.json")):
        yield import_trace(path.read_bytes(), path.stem, _TRACE_SCALE)


def install(url: str, token: str = "", organization: str = "") -> None:
    """Install every example."""
    with Client(url, token, organization=organization) as client:
        for definition in definitions():
            client.apply(_with_api(definition, url))


def _with_api(definition: dict[str, Any], url: str) -> dict[str, Any]:
    """Return a definition that asks the API at ``url``, where it asks this API."""
    text = msgspec.json.encode(definition).replace(_API_URL.encode(), url.encode())
    changed: dict[str, Any] = msgspec.json.decode(text)
    return changed
