"""The built dashboard: a page and its assets, with their compressed forms, in memory.

The build hook of the distribution packs them into the package. A checkout has them where they were
built. Their names contain hashes, so a browser may keep an asset for good.
"""

import hashlib
import mimetypes
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

import tailrace_api

_PACKAGE: Final = Path(tailrace_api.__file__).parent
_PACKED: Final = _PACKAGE / "web" / "dashboard"
# A package in an image has fewer folders above it than one in a checkout.
_CHECKOUT: Final = _PACKAGE / "../../../../clients/web/packages/dashboard/dist"
_PAGE: Final = "index.html"
_ENCODINGS: Final[Mapping[str, str]] = {"br": ".br", "gzip": ".gz"}
"""Content codings, the best first, and what they add to the names of files."""
_WEIGHT: Final = re.compile(r"q=0(?:\.0*)?$")

CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; worker-src 'self'; manifest-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)


class File(NamedTuple):
    """A file of the site.

    Attributes:
        media_type: The value of the header Content-Type.
        etag: The value of the header ETag.
        bodies: The content by content coding; ``identity`` is the plain one.
    """

    media_type: str
    etag: str
    bodies: Mapping[str, bytes]

    def best_for(self, accept_encoding: str) -> str:
        """Return the best content coding for the header Accept-Encoding of a request."""
        accepted = _codings(accept_encoding)
        found = (coding for coding in self.bodies if coding in accepted)
        return next(found, "identity")


class Site(NamedTuple):
    """The page and the assets by name."""

    page: File
    assets: Mapping[str, File]


def find_site() -> Site | None:
    """Read the built dashboard; return None if it was not built."""
    folder = next((each for each in (_PACKED, _CHECKOUT) if (each / _PAGE).is_file()), None)
    if folder is None:
        return None
    return read_site(folder)


def read_site(folder: Path) -> Site:
    """Read a built dashboard.

    Raises:
        OSError: a file cannot be read.
    """
    suffixes = tuple(_ENCODINGS.values())
    plain = (path for path in (folder / "assets").iterdir() if path.suffix not in suffixes)
    return Site(_read(folder / _PAGE), {path.name: _read(path) for path in sorted(plain)})


def _read(path: Path) -> File:
    bodies = {
        coding: compressed.read_bytes()
        for coding, suffix in _ENCODINGS.items()
        if (compressed := path.with_name(path.name + suffix)).is_file()
    }
    content = path.read_bytes()
    media_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    if media_type.startswith("text/"):
        media_type += "; charset=utf-8"
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    return File(media_type, etag, {**bodies, "identity": content})


def _codings(accept_encoding: str) -> set[str]:
    parts = (part.replace(" ", "").lower().partition(";") for part in accept_encoding.split(","))
    return {coding for coding, _, weight in parts if coding and not _WEIGHT.match(weight)}
