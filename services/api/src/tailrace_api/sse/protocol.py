"""The HTTP/1.1 protocol, with what streams need beyond ASGI: the connection's transport.

Only the transport can cut off a client that takes nothing: closing waits until the client has
taken what is buffered. It is handed on in an ASGI extension; under another server, or in a test
client, the extension is missing and streams do without.
"""

import asyncio
from typing import Any, Final

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tailrace_api.problems import problem

_EXTENSION: Final = "tailrace.transport"


class StreamProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol, which also tells requests their transport."""

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        extensions: dict[str, Any] = {_EXTENSION: {"transport": self.transport}}
        self.scope["extensions"] = extensions

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP, in the form of all other refusals."""
        answer = problem(400, msg, headers={"connection": "close"})
        lines = [b"HTTP/1.1 400 Bad Request"]
        lines += [name + b": " + value for name, value in answer.raw_headers]
        self.transport.write(b"\r\n".join([*lines, b"", bytes(answer.body)]))
        self.transport.close()


def transport_of(scope: Scope) -> asyncio.Transport | None:
    """Return the transport of a request, if the server tells it."""
    extension = scope.get("extensions", {}).get(_EXTENSION)
    transport: asyncio.Transport | None = extension and extension["transport"]
    return transport
