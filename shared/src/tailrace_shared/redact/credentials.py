"""Redaction: texts without the tokens, tickets and passwords that may have got into them.

This is the last line of defence. Credentials are taken out of a request before anything looks at
it; what is masked here is what a client put where no credential belongs, a path for example.
"""

import re
from typing import Final

MASK: Final = "***"

TICKET_PREFIX: Final = "trt_"
"""What every ticket begins with, so that one is recognised wherever it turns up."""

_SECRET: Final = re.compile(
    r"""
    # A JSON Web Token: its header is always an object, so it begins with the Base64 of '{"'.
    (?P<token> (?: eyJ | trt_ ) [A-Za-z0-9_-]{6,} (?: \.[A-Za-z0-9_=-]* )* )
    # A parameter of a query, also where it is encoded once more; up to the next one, if that
    # follows in a path, which has no separators.
    | (?P<name> (?: authorization | access_token | ticket ) (?: = | %3D ) )
      (?: bearer (?: \s | \+ | %20 )+ )?
      (?: (?! authorization | access_token | ticket ) [^\s&"'\\,;#] )+
    # A header, or what was copied from one.
    | (?P<scheme> \b bearer (?: \s | \+ | %20 )+ ) [A-Za-z0-9._~+/=-]{16,}
    # The password in a URL.
    | (?P<user> :// [^\s/:@"'\\]* : ) [^\s/@"'\\]+ (?= @ )
    """,
    re.IGNORECASE | re.VERBOSE,
)


def redact_credentials(text: str) -> str:
    """Return ``text`` with a mask in place of whatever looks like a credential."""
    return _SECRET.sub(_mask, text)


def _mask(match: re.Match[str]) -> str:
    kept = match["name"] or match["scheme"] or match["user"] or ""
    return f"{kept}{MASK}"
