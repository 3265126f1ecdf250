"""A token issuer: private keys, signed tokens, and a key set (JWKS) over HTTP."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import get_default_algorithms

SECRET: Final = "a secret of more than thirty-two bytes, for tests alone"
ALL_SCOPES: Final = "workflows:read workflows:write executions:read executions:write operator"


@cache
def private_key(algorithm: str, name: str = "") -> Any:
    """Return the private key of a name and an algorithm; each call returns the same key."""
    del name
    if algorithm == "RS256":
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    if algorithm == "ES256":
        return ec.generate_private_key(ec.SECP256R1())
    return ed25519.Ed25519PrivateKey.generate()


def public_pem(algorithm: str, name: str = "") -> str:
    """Return the matching public key, as PEM."""
    public = private_key(algorithm, name).public_key()
    pem: bytes = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return pem.decode()


def jwk(algorithm: str, name: str, **members: Any) -> dict[str, Any]:
    """Return the public key of a name as a JSON Web Key (RFC 7517)."""
    public = private_key(algorithm, name).public_key()
    key = get_default_algorithms()[algorithm].to_jwk(public, as_dict=True)
    return {**key, "kid": name, "use": "sig", **members}


def claims(**changed: Any) -> dict[str, Any]:
    """Return claims with all scopes of the tenant ``acme``; a claim that is None is left out."""
    whole = {
        "sub": "ada",
        # Some tokens are made at test collection and used much later.
        "exp": int(time.time()) + 86_400,
        "org": "acme",
        "scope": ALL_SCOPES,
        **changed,
    }
    return {name: value for name, value in whole.items() if value is not None}


def token(**changed: Any) -> str:
    """Return a token signed with the shared secret (HS256)."""
    return jwt.encode(claims(**changed), SECRET, algorithm="HS256")


def signed(
    algorithm: str, name: str = "", *, headers: dict[str, Any] | None = None, **changed: Any
) -> str:
    """Return a token signed with the private key of a name, which becomes its ``kid``.

    A header that is None is left out.
    """
    whole = {"kid": name or None, **(headers or {})}
    return jwt.encode(
        claims(**changed),
        private_key(algorithm, name),
        algorithm=algorithm,
        headers={key: value for key, value in whole.items() if value is not None},
    )


def bearer(text: str) -> dict[str, str]:
    """Return the ``Authorization`` header of a token."""
    return {"authorization": f"Bearer {text}"}


class Issuer:
    """A key set over HTTP, served by its own thread.

    Attributes:
        url: of the key set.
        keys: the keys to publish.
        asked: how many requests it has had.
        status: the status of its responses.
        body: sent instead of the keys, if set.
        location: redirect here (set ``status`` to 302).
        gate: responses wait until this is set.
    """

    def __init__(self) -> None:
        self.keys: list[Any] = []
        self.asked = 0
        self.status = 200
        self.body: bytes | None = None
        self.location = ""
        self.gate = threading.Event()
        self.gate.set()
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked += 1
                issuer.gate.wait(60)
                document = json.dumps({"keys": issuer.keys}).encode()
                body = document if issuer.body is None else issuer.body
                self.send_response(issuer.status)
                if issuer.location:
                    self.send_header("location", issuer.location)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Write no access log."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/keys"

    @contextmanager
    def running(self) -> Iterator["Issuer"]:
        """Serve until the end of the block."""
        thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.gate.set()
            self._server.shutdown()
            self._server.server_close()
