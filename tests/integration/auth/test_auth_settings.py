"""Invalid settings prevent the start with one line that names them and reveals no secret."""

import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from harness.http.token_issuer import SECRET, bearer, private_key, public_pem, signed, token
from harness.nats.server import NatsServer
from harness.processes.api_process import ApiProcess
from harness.processes.ports import free_port

WEAK = "31 bytes are one byte too short"
PRIVATE = (
    private_key("ES256").private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
)
SMALL = (
    rsa.generate_private_key(public_exponent=65537, key_size=1024)
    .public_key()
    .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    .decode()
)


def _fail(**settings: str) -> str:
    """Start an API with invalid settings; return its only line on stderr."""
    nats = settings.pop("nats", f"nats://127.0.0.1:{free_port()}")
    environment = {f"TAILRACE_{name.upper()}": value for name, value in settings.items()}
    process = subprocess.run(
        [sys.executable, "-m", "tailrace_api"],
        env={
            "PATH": "/usr/bin:/bin",
            "TAILRACE_PORT": "0",
            "NATS_URL": nats,
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert process.returncode == 2, process.stderr
    (line,) = process.stderr.splitlines()
    assert line.startswith("tailrace-api: ")
    for value in settings.values():
        assert len(value) < 30 or value not in line
    return line


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"auth": "jwt"}, "TAILRACE_AUTH_SECRET"),
        ({"auth": "basic"}, "TAILRACE_AUTH="),
        ({"auth": "jwt", "auth_algorithm": "RS256"}, "TAILRACE_AUTH_PUBLIC_KEY"),
        ({"auth": "jwt", "auth_algorithm": "none"}, "TAILRACE_AUTH_ALGORITHM"),
        ({"auth_secret": SECRET}, "TAILRACE_AUTH_SECRET"),
        ({"auth": "jwt", "auth_secret": WEAK}, "TAILRACE_AUTH_SECRET: a secret needs 32 bytes"),
        ({"auth": "jwt", "auth_secret_file": "/nowhere"}, "TAILRACE_AUTH_SECRET_FILE"),
        ({"auth": "jwt", "auth_secret": public_pem("RS256")}, "TAILRACE_AUTH_SECRET"),
        ({"auth": "jwt", "auth_public_key": public_pem("RS256")}, "TAILRACE_AUTH_ALGORITHM=HS256"),
        (
            {"auth": "jwt", "auth_secret": SECRET, "auth_algorithm": "ES256"},
            "TAILRACE_AUTH_SECRET cannot be used with",
        ),
        (
            {"auth": "jwt", "auth_secret": SECRET, "auth_secret_file": "/dev/null"},
            "only one of TAILRACE_AUTH_SECRET and TAILRACE_AUTH_SECRET_FILE",
        ),
        *(
            (
                {"auth": "jwt", "auth_algorithm": algorithm, "auth_public_key": key},
                f"TAILRACE_AUTH_PUBLIC_KEY: {algorithm}",
            )
            for algorithm, key in (
                ("RS256", public_pem("ES256")),
                ("RS256", SMALL),
                ("ES256", public_pem("EdDSA")),
                ("ES256", PRIVATE),
                ("EdDSA", public_pem("RS256")),
                ("EdDSA", SECRET),
            )
        ),
        *(
            (
                {"auth": "jwt", "auth_algorithm": "RS256", "auth_jwks_url": url},
                "TAILRACE_AUTH_JWKS_URL",
            )
            for url in (
                "http://issuer.example/keys",
                "file:///etc/passwd",
                "issuer.example/keys",
                "https://",
                "http://127.0.0.1.issuer.example/keys",
                "http://[::1/keys",
            )
        ),
        ({"cors_origins": "*", "cors_credentials": "true"}, "TAILRACE_CORS_ORIGINS"),
        ({"cors_origins": "https://app.example.com/"}, "TAILRACE_CORS_ORIGINS"),
        ({"cors_origins": "app.example.com"}, "TAILRACE_CORS_ORIGINS"),
        ({"host": "0.0.0.0"}, "TAILRACE_AUTH=none"),
    ],
)
def test_invalid_settings_prevent_the_start(settings: dict[str, str], named: str) -> None:
    """The exit code is 2, and NATS is not contacted."""
    assert named in _fail(**settings)


def test_a_nats_password_is_redacted() -> None:
    """The rest of the URL stays visible."""
    address = f"127.0.0.1:{free_port()}"
    line = _fail(nats_connect_timeout="300ms", nats=f"nats://user:very-secret@{address}")
    assert address in line
    assert "very-secret" not in line


async def test_keys_can_be_read_from_files(idle_nats: NatsServer, logs: Path) -> None:
    """A trailing line end is not part of a secret."""
    secret, pem = logs / "secret", logs / "key.pem"
    secret.write_text(SECRET + "\n")
    pem.write_text(public_pem("EdDSA"))
    for settings, text in (
        ({"auth_secret_file": str(secret)}, token()),
        ({"auth_algorithm": "EdDSA", "auth_public_key_file": str(pem)}, signed("EdDSA")),
    ):
        with ApiProcess(idle_nats.url, logs, auth="jwt", **settings) as api:
            async with httpx.AsyncClient(base_url=api.url, timeout=60) as http:
                answer = await http.get("/api/v1/workflows", headers=bearer(text))
                assert answer.status_code == 200


async def test_authentication_allows_any_bind_address(idle_nats: NatsServer, logs: Path) -> None:
    """Requests need a token; metrics can be opened for Prometheus."""
    settings = {"auth": "jwt", "auth_secret": SECRET, "host": "0.0.0.0"}
    with ApiProcess(idle_nats.url, logs, **settings, open_metrics="true") as api:
        async with httpx.AsyncClient(base_url=api.url, timeout=60) as http:
            assert (await http.get("/api/v1/workflows")).status_code == 401
            assert (await http.get("/metrics")).status_code == 200
            assert (await http.get("/api/v1/dead-letters")).status_code == 401
