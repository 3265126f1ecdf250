"""A system that asks for tokens, and tokens for it."""

import time
from typing import Final, NamedTuple

import jwt

from harness.processes.tailrace_up import TailraceUp

SECRET: Final = "a secret of more than thirty-two bytes, for tests alone"
SCOPES: Final = "workflows:read workflows:write executions:read executions:write"


def environment() -> dict[str, str]:
    """Return the settings of a system that asks for tokens."""
    return {
        "TAILRACE_AUTH": "jwt",
        "TAILRACE_AUTH_ALGORITHM": "HS256",
        "TAILRACE_AUTH_SECRET": SECRET,
        "TAILRACE_RETRY": "20ms",
    }


class SecuredSystem(NamedTuple):
    """A system that asks for tokens."""

    up: TailraceUp

    def token(self, *organizations: str) -> str:
        """Return a token for some organisations, good for some minutes."""
        claims = {
            "sub": "somebody",
            "orgs": organizations,
            "scope": SCOPES,
            "exp": time.time() + 600,
        }
        return jwt.encode(claims, SECRET, algorithm="HS256")
