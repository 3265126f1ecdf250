"""Certificates and users of a NATS server: a certificate authority, and an operator of JWTs."""

import base64
import json
import os
import time
from pathlib import Path
from typing import Any, Final

import nkeys
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

_HOST: Final = "127.0.0.1"
_UNLIMITED: Final = dict.fromkeys(
    ("subs", "data", "payload", "imports", "exports", "conn", "leaf", "wildcards"), -1
) | {"wildcards": True}
_STORING: Final = dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer"), -1)


class Certificates:
    """A certificate authority with the certificates of a server and a client, as files.

    Attributes:
        ca: the certificate of the authority.
        server: certificate and key of the server in one file.
        client: certificate of the client.
        client_key: its private key.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.ca, self.server = folder / "ca.pem", folder / "server.pem"
        self.client, self.client_key = folder / "client.pem", folder / "client.key"
        self.renew()

    def renew(self) -> None:
        """Replace the authority and all certificates."""
        authority = trustme.CA()
        server, client = authority.issue_cert(_HOST), authority.issue_cert("client@tailrace.test")
        authority.cert_pem.write_to_path(self.ca)
        server.private_key_and_cert_chain_pem.write_to_path(self.server)
        client.cert_chain_pems[0].write_to_path(self.client)
        client.private_key_pem.write_to_path(self.client_key)

    def encrypt_key(self) -> None:
        """Protect the private key of the client with a passphrase."""
        key = load_pem_private_key(self.client_key.read_bytes(), None)
        encryption = BestAvailableEncryption(b"word")
        self.client_key.write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
        )

    def configuration(self) -> str:
        """Return the part of the server's configuration that requires mutual TLS."""
        files = f'cert_file: "{self.server}", key_file: "{self.server}", ca_file: "{self.ca}"'
        return f"tls {{ {files}, verify: true }}\n"

    def settings(self) -> dict[str, str]:
        """Return the settings of a client."""
        return {
            "nats_ca_file": str(self.ca),
            "nats_cert_file": str(self.client),
            "nats_key_file": str(self.client_key),
        }


class Operator:
    """An operator with one account, whose users authenticate by JWT and NKey."""

    def __init__(self) -> None:
        self._operator, self._account, self._system = _keys("O"), _keys("A"), _keys("A")
        self._revoked: dict[str, int] = {}
        self._users: dict[Path, str] = {}
        # Signed once: a server refuses a reload with another one, and each has its time.
        trust = {"system_account": self._system.public_key.decode()}
        self._trust = _signed(self._operator, self._operator, "operator", trust)

    def configuration(self) -> str:
        """Return the part of the server's configuration that trusts this operator."""
        names = [keys.public_key.decode() for keys in (self._account, self._system)]
        system = _signed(self._system, self._operator, "account", {"limits": _UNLIMITED})
        account = _signed(
            self._account,
            self._operator,
            "account",
            {"limits": _UNLIMITED | _STORING, "revocations": self._revoked},
        )
        accounts = dict(zip(names, (account, system), strict=True))
        preload = "\n".join(f'{name}: "{jwt}"' for name, jwt in accounts.items())
        return f'operator: "{self._trust}"\nresolver: MEMORY\nresolver_preload: {{\n{preload}\n}}\n'

    def write_user(self, path: Path) -> None:
        """Write the credentials of a new user; revoke the user that the file named before."""
        user = _keys("U")
        if path in self._users:
            self._revoked[self._users[path]] = int(time.time()) + 1
        self._users[path] = user.public_key.decode()
        jwt = _signed(user, self._account, "user", {"subs": -1, "data": -1, "payload": -1})
        path.write_text(
            f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{bytes(user.seed).decode()}\n"
            "------END USER NKEY SEED------\n"
        )


def _keys(kind: str) -> Any:
    prefix = {
        "O": nkeys.PREFIX_BYTE_OPERATOR,
        "A": nkeys.PREFIX_BYTE_ACCOUNT,
        "U": nkeys.PREFIX_BYTE_USER,
    }[kind]
    return nkeys.from_seed(bytearray(nkeys.encode_seed(os.urandom(32), prefix)))


def _signed(subject: Any, issuer: Any, kind: str, claims: dict[str, Any]) -> str:
    public = subject.public_key.decode()
    body = {
        "jti": public,
        "iat": int(time.time()),
        "iss": issuer.public_key.decode(),
        "name": kind,
        "sub": public,
        "nats": {**claims, "type": kind, "version": 2},
    }
    header = {"typ": "JWT", "alg": "ed25519-nkey"}
    signed = b".".join(_base64(json.dumps(part).encode()) for part in (header, body))
    return b".".join([signed, _base64(issuer.sign(signed))]).decode()


def _base64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
