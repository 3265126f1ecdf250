"""A system that requires tokens, and tokens that it accepts."""

import time
from typing import Final, NamedTuple

import jwt

from harness.http.token_issuer import SECRET
from harness.processes.tailrace_up import TailraceUp

SCOPES: Final = "workflows:read workflows:write executions:read executions:write"


def environment() -> dict[str, str]:
    """Return the settings of a system that requires HS256 tokens."""
    return {
        "TAILRACE_AUTH": "jwt",
        "TAILRACE_AUTH_ALGORITHM": "HS256",
        "TAILRACE_AUTH_SECRET": SECRET,
        "TAILRACE_RETRY": "20ms",
    }


class SecuredSystem(NamedTuple):
    """A running ``tailrace up`` that requires tokens."""

    up: TailraceUp

    def token(self, *organizations: str, subject: str = "ada", scope: str = SCOPES) -> str:
        """Return a token for some organisations, valid for ten minutes."""
        claims = {
            "sub": subject,
            "orgs": organizations,
            "scope": scope,
            "exp": time.time() + 600,
        }
        return jwt.encode(claims, SECRET, algorithm="HS256")
