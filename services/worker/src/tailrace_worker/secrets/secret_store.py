"""Secrets: what ``${secrets.name}`` means on this worker.

A secret is a mounted file or an environment variable, looked up when an attempt begins, so a
rotated file counts from the next attempt on. A tenant's own folder comes first. What lies beside
the folders, and in the environment, is shared, and only for the tenants that a setting lists:
otherwise whoever may store definitions could have another tenant's credentials sent anywhere.
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
"""Shorter ones would be found, and replaced, in everything."""
EVERYBODY: Final = "*"
_MOST_REPEATS: Final = 64
_REMEMBERED: Final = 1000


class SecretError(ServiceError):
    """A secret cannot be had; the message tells its name and where it was looked for."""


class Secrets:
    """The secrets that one attempt is given.

    Attributes:
        values: them by name.
        redactor: what takes them out of whatever the attempt gives back.
    """

    def __init__(self, values: Mapping[str, str]) -> None:
        self.values = values
        self.redactor = Redactor(values.values())


class SecretStore:
    """Looks secrets up for the attempts of this worker, and keeps them out of its own log.

    Args:
        directory: where they are mounted; empty for nowhere.
        tenants: who may have those that are shared, separated by commas; ``*`` for all.
        environment: the process's.

    Raises:
        SettingsError: there is no such directory, or the tenants are none.
    """

    def __init__(
        self,
        directory: str = "",
        tenants: str = "",
        environment: Mapping[str, str] = {},
    ) -> None:
        self._directory = _directory(directory)
        self._tenants = frozenset(_tenants(tenants))
        self._environment = environment
        self._given: OrderedDict[str, Redactor] = OrderedDict()

    async def get(self, tenant: str, names: Collection[str]) -> Secrets:
        """Return a tenant's secrets.

        Raises:
            SecretError: one of them is nowhere, or cannot be used.
        """
        # Mounts may be slow, so may be to prepare a search, and other executions share the loop.
        secrets = await asyncio.to_thread(lambda: Secrets(self._read(tenant, names)))
        for value in secrets.values.values():
            self._given[value] = Redactor([value])
            self._given.move_to_end(value)
            if len(self._given) > _REMEMBERED:
                self._given.popitem(last=False)
        return secrets

    def redact(self, line: str) -> str:
        """Return a line of the worker's log without any secret that was given out."""
        for redactor in list(self._given.values()):
            line = redactor.redact_text(line)
        return line

    def _read(self, tenant: str, names: Collection[str]) -> dict[str, str]:
        return {name: self._find(tenant, name) for name in sorted(names)}

    def _find(self, tenant: str, name: str) -> str:
        # They become part of a path, and of the name of a variable.
        if not is_valid_id(name) or not is_valid_id(tenant):
            raise SecretError(f"{name!r} is not the name of a secret")
        is_shared = bool(self._tenants & {tenant, EVERYBODY})
        for place in [f"{tenant}/{name}", *([name] if is_shared else [])]:
            content = None if self._directory is None else _content(name, self._directory / place)
            if content is not None:
                return _checked(name, content)
        variable = SECRET_PREFIX + name.upper().replace("-", "_")
        if is_shared and variable in self._environment:
            return _checked(name, self._environment[variable])
        raise SecretError(
            f"there is no secret {name!r}: "
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
            yield f"not for shared ones, which {tenant!r} may not have (TAILRACE_SECRETS_TENANTS)"


def _directory(text: str) -> Path | None:
    if text and not Path(text).is_dir():
        raise SettingsError(f"TAILRACE_SECRETS_DIR={text!r}: there is no such folder")
    return Path(text) if text else None


def _tenants(text: str) -> Iterator[str]:
    for tenant in filter(None, (part.strip() for part in text.split(","))):
        if tenant != EVERYBODY and not is_valid_id(tenant):
            raise SettingsError(f"TAILRACE_SECRETS_TENANTS={text!r}: {tenant!r} is no tenant")
        yield tenant


def _content(name: str, path: Path) -> str | None:
    try:
        # A folder beside the files is a tenant's.
        if not path.is_file():
            return None
        with path.open("rb") as file:
            # One byte more than may be, so that nobody has to read all of what is too large.
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise SecretError(f"the file of the secret {name!r} cannot be read: {reason}") from None
    if len(content) > MAX_BYTES:
        raise SecretError(f"the secret {name!r} is longer than {MAX_BYTES} bytes")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        # Not with the error as its cause: that quotes what it could not decode.
        raise SecretError(f"the secret {name!r} is not UTF-8") from None
    return text.removesuffix("\n").removesuffix("\r")


def _checked(name: str, value: str) -> str:
    if len(value) < MIN_CHARACTERS:
        raise SecretError(
            f"the secret {name!r} is shorter than {MIN_CHARACTERS} characters, "
            "so it could not be kept out of logs"
        )
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise SecretError(f"the secret {name!r} is not UTF-8") from None
    if size > MAX_BYTES:
        raise SecretError(f"the secret {name!r} is longer than {MAX_BYTES} bytes")
    if any(_repeats(part) > _MOST_REPEATS for part in (value, *value.splitlines())):
        raise SecretError(
            f"the secret {name!r} repeats itself, so to look for it in answers could take minutes"
        )
    return value


def _repeats(text: str) -> float:
    """Return how often a text repeats what it begins with.

    So often a search that begins anew at each character looks at one: where the beginning of
    what is searched for is found within itself, and then it goes on differently.
    """
    most, length = 1.0, 0
    # Of each beginning how much of it is also its end (Knuth, Morris and Pratt).
    ends = [0] * len(text)
    for index in range(1, len(text)):
        while length and text[index] != text[length]:
            length = ends[length - 1]
        length += text[index] == text[length]
        ends[index] = length
        most = max(most, (index + 1) / (index + 1 - length))
    return most
