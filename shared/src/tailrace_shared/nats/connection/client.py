"""nats-py's client, with the behaviour that services need."""

import asyncio
import ssl
import time
from typing import Any, Final

import nats.errors
from nats.aio.client import Client, Srv

from tailrace_shared.errors import StartupError
from tailrace_shared.nats.connection.credentials import NatsCredentials
from tailrace_shared.nats.connection.paced_transport import PacedTransport
from tailrace_shared.settings import variable

_CLOSE_TIMEOUT_S: Final = 2.0
# A server that has just started, or reloads its users, may refuse once.
_MAX_REFUSALS: Final = 2
_STALE: Final = "stale connection"
_TCP: Final = frozenset({"nats", "tls"})
PERMISSION_ERROR: Final = "permissions violation"
"""How a server begins its message about a subject that the user may not use."""
_REFUSED_USER: Final = ("authorization", "authentication", "expired", "revoked")

_CREDENTIALS_SETTINGS: Final = (
    f"{variable('nats_creds_file')}, {variable('nats_token_file')} or credentials in NATS_URL"
)


class NatsRefusedError(StartupError):
    """Every server refused the credentials or the certificate at the first connect."""


class NatsClient(Client):
    """A connection to NATS.

    - It gives up a connection to a server that reads nothing any more. nats-py waits until what it
      has written is sent.
    - It connects again after every error that a server reports, for example that the user has
      expired. nats-py closes for good.
    - It reads credentials and certificates at every connect.
    - It sends nothing without TLS if TLS is configured, also if the server does not offer it.
    - It reads headers faster. nats-py checks each character of each name, which takes half of the
      time of reading a message, and a list reads thousands.

    Args:
        credentials: the servers and how to authenticate to them.
        read_interval: seconds between two reads while nothing is requested; 0 reads at once.
    """

    def __init__(self, credentials: NatsCredentials, read_interval: float = 0.0) -> None:
        super().__init__()
        self._credentials = credentials
        self._read_interval = read_interval
        self._refusals = 0
        self._has_connected = False
        self._reconnected_at = float("-inf")

    @property
    def since_reconnect(self) -> float:
        """Seconds since it last connected again; infinite if it never had to."""
        return time.monotonic() - self._reconnected_at

    @staticmethod
    def _parse_header_lines(raw: bytes) -> dict[str, str]:
        fields = (line.partition(":") for line in raw.decode(errors="replace").split("\r\n"))
        return {name.strip(): value.strip() for name, colon, value in fields if colon}

    @property
    def ssl_context(self) -> ssl.SSLContext:
        return self._credentials.ssl_context() or super().ssl_context

    async def close(self) -> None:
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await super().close()
        except (TimeoutError, OSError):
            self._abort()

    async def _connect_to_server(self, s: Srv) -> None:
        if self._transport is None and self._read_interval and s.uri.scheme in _TCP:
            self._transport = PacedTransport(self._read_interval)
        await super()._connect_to_server(s)

    async def _process_connect_init(self) -> None:
        if not self._credentials.is_empty:
            self._auth_configured = True
        try:
            await self._handshake()
        except (OSError, TimeoutError, nats.errors.Error) as error:
            # nats-py would wait for the end of a connection whose TLS handshake has failed.
            self._abort()
            self._transport = None
            if not self._has_connected:
                self._count_refusal(error)
            raise
        if self._has_connected:
            self._reconnected_at = time.monotonic()
        self._has_connected = True

    async def _handshake(self) -> None:
        await super()._process_connect_init()
        if not self.is_connected:
            raise nats.errors.Error("nats: the server closed the connection")

    def _connect_command(self) -> bytes:
        if self._must_encrypt and not self._is_encrypted:
            raise nats.errors.Error("nats: the server does not offer TLS, which is configured")
        server = self._current_server
        if server is not None:
            self.options.update(self._credentials.login(f"{server.uri.hostname}:{server.uri.port}"))
        return super()._connect_command()

    async def _process_err(self, err_msg: str) -> None:
        text = err_msg.lower()
        if _STALE in text or PERMISSION_ERROR in text:
            await super()._process_err(err_msg)
            return
        error = nats.errors.Error(f"nats: {err_msg}")
        await self._error_cb(error)
        await self._process_op_err(error)

    async def _attempt_reconnect(self) -> None:
        self._abort()
        await super()._attempt_reconnect()

    def _abort(self) -> None:
        writer = getattr(self._transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()

    @property
    def _must_encrypt(self) -> bool:
        server = self._current_server
        return self._credentials.requires_tls or (server is not None and server.uri.scheme == "tls")

    @property
    def _is_encrypted(self) -> bool:
        if self._current_server is not None and self._current_server.uri.scheme == "wss":
            return True
        writer = getattr(self._transport, "_io_writer", None)
        return writer is not None and writer.get_extra_info("ssl_object") is not None

    def _count_refusal(self, error: Exception) -> None:
        remedy = remedy_for(error)
        if not remedy:
            return
        self._refusals += 1
        if self._refusals >= _MAX_REFUSALS * len(self._server_pool):
            raise NatsRefusedError(
                f"NATS at {self._credentials.shown_servers} refused the connection: "
                f"{_reason(error)}: {remedy}"
            ) from None


def remedy_for(error: Exception) -> str:
    """Return which setting an operator should check; empty if a later connect may succeed."""
    text = str(error).lower()
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"check {variable('nats_ca_file')} and the name in NATS_URL"
    if isinstance(error, ssl.SSLError) and "alert" in text.replace("_", " "):
        return f"check {variable('nats_cert_file')} and {variable('nats_key_file')}"
    is_refusal = any(word in text for word in _REFUSED_USER) and "timeout" not in text
    if isinstance(error, nats.errors.Error) and is_refusal:
        return f"check {_CREDENTIALS_SETTINGS}"
    if "does not offer tls" in text:
        return f"check NATS_URL and {variable('nats_ca_file')}"
    return ""


def _reason(error: Any) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError):
        return (error.reason or "TLS failed").replace("_", " ").lower()
    return str(error).removeprefix("nats: ").strip("'")
