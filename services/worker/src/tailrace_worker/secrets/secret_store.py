"""Look up the value of ``${secrets.name}`` on this worker.

A secret is a mounted file or an environment variable. It is read when an attempt begins, so a
rotated file takes effect with the next attempt. A tenant's own folder comes first. Files beside the
folders, and the environment, are shared, but only with the tenants that a setting lists. Otherwise
any tenant that may store definitions could send the shared credentials to a server of its own.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Final

from tailrace_shared.errors import ServiceError, SettingsError
from tailrace_shared.ids import is_valid_id
from tailrace_shared.settings import SECRET_PREFIX
from tailrace_worker.secrets.redactor import Redactor

MAX_BYTES: Final = 16 * 1024
MIN_CHARACTERS: Final = 4
"""Shorter secrets would be masked in unrelated texts."""
ALL_TENANTS: Final = "*"
_MAX_REPEATS: Final = 64
_MAX_CACHED_REDACTORS: Final = 1000


class SecretError(ServiceError):
    """A secret is missing or unusable; the message has its name and the places searched."""


class Secrets:
    """The secrets of one attempt."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self.values = values
        self.redactor = Redactor(values.values())


class SecretStore:
    """Reads secrets for the attempts of this worker, and redacts them from the worker's log.

    Args:
        directory: the folder where secrets are mounted; empty for none.
        tenants: the tenants that may use shared secrets, separated by commas; ``*`` for all.

    Raises:
        SettingsError: the directory does not exist, or a tenant is not a valid id.
    """

    def __init__(
        self, directory: str = "", tenants: str = "", environment: Mapping[str, str] = {}
    ) -> None:
        self._directory = _directory(directory)
        self._tenants = frozenset(_tenants(tenants))
        self._environment = environment
        self._redactors: OrderedDict[str, Redactor] = OrderedDict()

    async def get(self, tenant: str, names: Collection[str]) -> Secrets:
        """Return a tenant's secrets.

        Raises:
            SecretError: one of them is missing, or cannot be used.
        """
        # In a thread: a mount may be slow, and so is compiling the patterns of a redactor.
        secrets = await asyncio.to_thread(lambda: Secrets(self._read(tenant, names)))
        for value in secrets.values.values():
            self._redactors[value] = Redactor([value])
            self._redactors.move_to_end(value)
            if len(self._redactors) > _MAX_CACHED_REDACTORS:
                self._redactors.popitem(last=False)
        return secrets

    def redact(self, line: str) -> str:
        """Return a line of the worker's log with every secret masked that an attempt has used."""
        for redactor in list(self._redactors.values()):
            line = redactor.redact_text(line)
        return line

    def _read(self, tenant: str, names: Collection[str]) -> dict[str, str]:
        return {name: self._find(tenant, name) for name in sorted(names)}

    def _find(self, tenant: str, name: str) -> str:
        # Both become part of a path, and the name part of a variable's name (CWE-22).
        if not is_valid_id(name) or not is_valid_id(tenant):
            raise SecretError(f"{name!r} is not the name of a secret")
        is_shared = bool(self._tenants & {tenant, ALL_TENANTS})
        for place in [f"{tenant}/{name}", *([name] if is_shared else [])]:
            content = None if self._directory is None else _content(name, self._directory / place)
            if content is not None:
                return _checked(name, content)
        variable = SECRET_PREFIX + name.upper().replace("-", "_")
        if is_shared and variable in self._environment:
            return _checked(name, self._environment[variable])
        raise SecretError(
            f"secret {name!r} does not exist: "
            f"looked for {', '.join(self._places(tenant, name, variable, is_shared=is_shared))}"
        )

    def _places(self, tenant: str, name: str, variable: str, *, is_shared: bool) -> Iterator[str]:
        if self._directory is not None:
            yield f"the file {tenant}/{name}"
            if is_shared:
                yield f"the file {name}"
        else:
            yield "files, but TAILRACE_SECRETS_DIR is not set"
        if is_shared:
            yield f"the variable {variable}"
        else:
            yield f"no shared secrets, as {tenant!r} may not use them (TAILRACE_SECRETS_TENANTS)"


def _directory(text: str) -> Path | None:
    if text and not Path(text).is_dir():
        raise SettingsError(f"TAILRACE_SECRETS_DIR={text!r}: the folder does not exist")
    return Path(text) if text else None


def _tenants(text: str) -> Iterator[str]:
    for tenant in filter(None, (part.strip() for part in text.split(","))):
        if tenant != ALL_TENANTS and not is_valid_id(tenant):
            raise SettingsError(f"TAILRACE_SECRETS_TENANTS={text!r}: {tenant!r} is not a tenant")
        yield tenant


def _content(name: str, path: Path) -> str | None:
    try:
        # A folder beside the shared files belongs to a tenant.
        if not path.is_file():
            return None
        with path.open("rb") as file:
            # One byte more than allowed shows that a file is too large without reading all of it.
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise SecretError(f"the file of the secret {name!r} cannot be read: {reason}") from None
    if len(content) > MAX_BYTES:
        raise SecretError(f"the secret {name!r} is longer than {MAX_BYTES} bytes")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        # Not chained: UnicodeDecodeError holds the bytes that it could not decode.
        raise SecretError(f"the secret {name!r} is not UTF-8") from None
    return text.removesuffix("\n").removesuffix("\r")


def _checked(name: str, value: str) -> str:
    if len(value) < MIN_CHARACTERS:
        raise SecretError(
            f"the secret {name!r} is shorter than {MIN_CHARACTERS} characters, "
            "so it could not be redacted from logs"
        )
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise SecretError(f"the secret {name!r} is not UTF-8") from None
    if size > MAX_BYTES:
        raise SecretError(f"the secret {name!r} is longer than {MAX_BYTES} bytes")
    if any(_repeats(part) > _MAX_REPEATS for part in (value, *value.splitlines())):
        raise SecretError(
            f"the secret {name!r} repeats itself, "
            "so a search for it in responses could take minutes"
        )
    return value


def _repeats(text: str) -> float:
    """Return how often a text repeats its own beginning.

    A naive search, which starts again at each character of the searched text, reads each character
    up to that many times.
    """
    most, length = 1.0, 0
    # The failure function of Knuth, Morris and Pratt: for each prefix its longest border.
    borders = [0] * len(text)
    for index in range(1, len(text)):
        while length and text[index] != text[length]:
            length = borders[length - 1]
        length += text[index] == text[length]
        borders[index] = length
        most = max(most, (index + 1) / (index + 1 - length))
    return most
