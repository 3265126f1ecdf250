"""An HTTP server whose responses are bytes that the test chooses."""

import socket
import threading
from collections.abc import Callable

Respond = Callable[[str, dict[str, str], bytes], bytes]


class ScriptedServer:
    """Serves one request per connection with the bytes that ``respond`` returns.

    ``respond`` receives the request line, the headers by lower-case name, and the body. The bytes
    are sent unchanged and the connection is closed, so a test can cut a response anywhere. While
    ``holds`` is set, the connection stays open until the client closes it.
    """

    def __init__(self) -> None:
        self.respond: Respond = lambda _line, _headers, _body: b""
        self.holds = False
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as reader:
                line = reader.readline().decode().strip()
                headers = {}
                while header := reader.readline().decode().strip():
                    name, _, value = header.partition(":")
                    headers[name.lower()] = value.strip()
                body = reader.read(int(headers.get("content-length", 0)))
                self.requests.append((line, headers, body))
                connection.sendall(self.respond(line, headers, body))
                if self.holds:
                    reader.read()
