"""Redact tokens, tickets and passwords in log lines and error messages.

This is the last line of defence. The API removes credentials from a request before it is
processed; this module finds credentials in unexpected positions, for example in a path.
"""

import re
from typing import Final

from tailrace_shared.redact.masking import MASK

TICKET_PREFIX: Final = "trt_"
"""Prefix of every ticket, by which tickets are recognised in any text."""

_CREDENTIAL: Final = re.compile(
    r"""
    # A JSON Web Token: its header is always an object, so it begins with the Base64 of '{"'.
    (?P<token> (?: eyJ | trt_ ) [A-Za-z0-9_-]{6,} (?: \.[A-Za-z0-9_=-]* )* )
    # A query parameter, also if it is URL-encoded, up to the next parameter. In a path the
    # parameters have no separators.
    | (?P<name> (?: authorization | access_token | ticket ) (?: = | %3D ) )
      (?: bearer (?: \s | \+ | %20 )+ )?
      (?: (?! authorization | access_token | ticket ) [^\s&"'\\,;#] )+
    # The value of an Authorization header.
    | (?P<scheme> \b bearer (?: \s | \+ | %20 )+ ) [A-Za-z0-9._~+/=-]{16,}
    # The token in the URL of a NATS server.
    | (?P<nats> (?: nats | tls | wss? ) :// ) [^\s/:@"'\\,]+ (?= @ )
    # The password in a URL.
    | (?P<user> :// [^\s/:@"'\\]* : ) [^\s/@"'\\]+ (?= @ )
    """,
    re.IGNORECASE | re.VERBOSE,
)


def redact_credentials(text: str) -> str:
    return _CREDENTIAL.sub(_mask, text)


def _mask(match: re.Match[str]) -> str:
    kept = match["name"] or match["scheme"] or match["nats"] or match["user"] or ""
    return f"{kept}{MASK}"
