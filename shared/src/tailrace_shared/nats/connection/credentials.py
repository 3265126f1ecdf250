"""How a connection authenticates to NATS, and its TLS.

All files are read at every connect, so rotated credentials and certificates are used from the next
reconnect on.
"""

import base64
import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import nats.errors

from tailrace_shared.errors import StartupError
from tailrace_shared.settings import CommonSettings, variable

_DEFAULT_PORT: Final = 4222
_USER_INFO: Final = re.compile(r"(?P<scheme>\w+://)?((?P<info>[^/]*)@)?(?P<rest>.*)", re.DOTALL)
_CREDS_BLOCK: Final = r"-----BEGIN {0}-----\s+(\S+)\s+------?END {0}------?"
_JWT: Final = re.compile(_CREDS_BLOCK.format("NATS USER JWT"))
_SEED: Final = re.compile(_CREDS_BLOCK.format("USER NKEY SEED"))
_MAX_FILE_BYTES: Final = 1024 * 1024

Login = Mapping[str, str]
"""Options of nats-py: ``user`` and ``password``, or ``token``."""


class NatsCredentialsError(StartupError, nats.errors.Error):
    """A file of credentials or of TLS is missing or wrong; the message names its setting."""


class NatsCredentials:
    """The credentials and the TLS of one installation.

    Args:
        settings: the servers, whose URLs may contain credentials, and the files.

    Attributes:
        servers: the URLs of the servers without credentials.

    Raises:
        NatsCredentialsError: settings contradict each other, or a file is missing or wrong.
    """

    def __init__(self, settings: CommonSettings) -> None:
        self._settings = settings
        self.servers: list[str] = []
        self._logins: dict[str, Login] = {}
        for url in settings.nats_url.split(","):
            server, login = _split(url)
            self.servers.append(server)
            if login:
                self._logins[_address(server)] = login
        self._check()

    @property
    def shown_servers(self) -> str:
        """The servers, for messages."""
        return ",".join(self.servers)

    @property
    def requires_tls(self) -> bool:
        """Whether nothing may be sent without TLS."""
        return bool(self._settings.nats_ca_file or self._settings.nats_cert_file)

    @property
    def is_empty(self) -> bool:
        """Whether no user, password, token or file of credentials is set."""
        return not (
            self._logins or self._settings.nats_creds_file or self._settings.nats_token_file
        )

    def options(self) -> dict[str, Any]:
        """Return the options of nats-py's ``Client.connect`` that read the file of credentials."""
        if not self._settings.nats_creds_file:
            return {}
        return {"user_jwt_cb": self._jwt, "signature_cb": self._sign}

    def login(self, address: str) -> Login:
        """Return the user and password, or the token, for a server.

        Args:
            address: ``host:port``. A server that NATS itself named gets the first login.
        """
        if self._settings.nats_token_file:
            return {"token": self._token()}
        return self._logins.get(address) or next(iter(self._logins.values()), {})

    def ssl_context(self) -> ssl.SSLContext | None:
        """Return the TLS context that the files describe; None if no file is set.

        Raises:
            NatsCredentialsError: a file is missing or wrong.
        """
        if not self.requires_tls:
            return None
        context = self._trusting_context()
        if self._settings.nats_cert_file:
            self._load_certificate(context)
        return context

    def _check(self) -> None:
        settings = self._settings
        sources = [
            name
            for name, value in (
                (variable("nats_creds_file"), settings.nats_creds_file),
                (variable("nats_token_file"), settings.nats_token_file),
                (variable("nats_url"), self._logins),
            )
            if value
        ]
        if len(sources) > 1:
            raise NatsCredentialsError(f"{' and '.join(sources)} both have credentials: keep one")
        if settings.nats_key_file and not settings.nats_cert_file:
            raise NatsCredentialsError(
                f"{variable('nats_key_file')} needs {variable('nats_cert_file')}"
            )
        if settings.nats_creds_file:
            self._jwt()
            self._sign("")
        if settings.nats_token_file:
            self._token()
        self.ssl_context()

    def _token(self) -> str:
        token = self._read("nats_token_file").decode(errors="replace").strip()
        if not token or not token.isprintable():
            raise self._wrong("nats_token_file", "it does not contain a token on one line")
        return token

    def _jwt(self) -> bytes:
        return self._block("a user JWT", _JWT)

    def _sign(self, nonce: str) -> bytes:
        # Imported here, because few installations need its library.
        import nkeys  # noqa: PLC0415

        try:
            keys = nkeys.from_seed(bytearray(self._block("an NKey seed", _SEED)))
            return base64.b64encode(keys.sign(nonce.encode()))
        except (nkeys.NkeysError, ValueError):
            raise self._wrong("nats_creds_file", "its NKey seed is invalid") from None

    def _block(self, name: str, pattern: re.Pattern[str]) -> bytes:
        found = pattern.search(self._read("nats_creds_file").decode(errors="replace"))
        if found is None:
            raise self._wrong("nats_creds_file", f"it does not contain {name}")
        return found[1].encode()

    def _trusting_context(self) -> ssl.SSLContext:
        if not self._settings.nats_ca_file:
            return ssl.create_default_context()
        text = self._read("nats_ca_file").decode("ascii", errors="replace")
        try:
            # An empty text would select the authorities of the system.
            return ssl.create_default_context(cadata=text or "none")
        except (ssl.SSLError, ValueError):
            raise self._wrong("nats_ca_file", "it does not contain certificates (PEM)") from None

    def _load_certificate(self, context: ssl.SSLContext) -> None:
        certificate, key = self._settings.nats_cert_file, self._settings.nats_key_file
        self._read("nats_cert_file")
        if key:
            self._read("nats_key_file")
        try:
            context.load_cert_chain(certificate, key or None, password=_refuse_passphrase)
        except _PassphraseError:
            setting = "nats_key_file" if key else "nats_cert_file"
            raise self._wrong(setting, "it must not be encrypted") from None
        except ssl.SSLError as error:
            does_not_fit = error.reason == "KEY_VALUES_MISMATCH"
            setting = "nats_key_file" if key and does_not_fit else "nats_cert_file"
            reason = (
                "not the key of the certificate" if does_not_fit else "no certificate and key (PEM)"
            )
            raise self._wrong(setting, reason) from None

    def _read(self, field: str) -> bytes:
        path = getattr(self._settings, field)
        try:
            with Path(path).open("rb") as file:
                return file.read(_MAX_FILE_BYTES)
        except OSError as error:
            raise NatsCredentialsError(
                f"{variable(field)}={path}: cannot be read: {error.strerror}"
            ) from None

    def _wrong(self, field: str, reason: str) -> NatsCredentialsError:
        return NatsCredentialsError(f"{variable(field)}={getattr(self._settings, field)}: {reason}")


class _PassphraseError(ValueError):
    """A private key is encrypted."""


def _refuse_passphrase() -> str:
    # Without it OpenSSL would ask for the passphrase at the terminal.
    raise _PassphraseError


def _split(url: str) -> tuple[str, Login]:
    """Split the URL of a server into the URL without credentials, and the credentials."""
    found = _USER_INFO.fullmatch(url.strip())
    if found is None or found["info"] is None:
        return url.strip(), {}
    server = f"{found['scheme'] or ''}{found['rest']}"
    user, colon, password = found["info"].partition(":")
    if colon:
        return server, {"user": unquote(user), "password": unquote(password)}
    return server, {"token": unquote(user)}


def _address(server: str) -> str:
    try:
        parts = urlsplit(server if "://" in server else f"nats://{server}")
        port = parts.port or _DEFAULT_PORT
    except ValueError:
        return server  # nats-py refuses it
    return f"{parts.hostname}:{port}"
