"""Where a client connects: arguments, environment, ``.env`` or a profile.

The URL, the token and the organisation come from one source: a token of one source must not go to
the API of another.

The configuration file is ``TAILRACE_CONFIG``, or ``tailrace/config.toml`` in ``XDG_CONFIG_HOME``
(``~/.config``):

    default = "local"

    [profiles.local]
    url = "http://127.0.0.1:8080"

    [profiles.production]
    url = "https://tailrace.example.com"
    token_file = "~/.config/tailrace/production.token"
    organization = "acme"
"""

import os
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from tailrace.errors import ProfileError

DEFAULT_URL: Final = "http://127.0.0.1:8080"
_URL: Final = "TAILRACE_URL"
_TOKEN: Final = "TAILRACE_TOKEN"  # noqa: S105 - the name of a variable
_ORGANIZATION: Final = "TAILRACE_ORGANIZATION"
_PROFILE: Final = "TAILRACE_PROFILE"
_CONFIG: Final = "TAILRACE_CONFIG"
_FIELDS: Final = ("url", "token", "token_file", "organization")
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


class Connection(NamedTuple):
    """An API, and the credentials for it."""

    url: str
    token: str = ""
    organization: str = ""


def connection_of(
    url: str | None = None,
    token: str = "",
    organization: str = "",
    profile: str | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Connection:
    """Return where a client connects.

    The first source that has a URL counts: the argument ``url``, the argument ``profile``,
    ``TAILRACE_URL``, ``TAILRACE_PROFILE``, ``.env``, the default profile, and last the default URL
    with the credentials of the environment. Arguments for the token and the organisation replace
    those of the source.

    Args:
        url: the URL of the API.
        token: the bearer token.
        organization: the organisation.
        profile: the name of a profile.
        environment: the environment variables; by default those of the process.
        folder: the folder with ``.env``; by default the current one.

    Raises:
        ProfileError: the profile does not exist, or the configuration file is not usable.
    """
    variables = os.environ if environment is None else environment
    found = (
        Connection(url)
        if url is not None
        else _from_source(profile, variables, Path.cwd() if folder is None else folder)
    )
    return Connection(found.url, token or found.token, organization or found.organization)


def dotenv_of(folder: Path) -> dict[str, str]:
    """Return the variables of ``.env`` in a folder; empty if there is no such file.

    Raises:
        ProfileError: it cannot be read.
    """
    path = folder / ".env"
    try:
        if not path.is_file():
            return {}
        # Imported late: most folders have no such file.
        from dotenv import dotenv_values  # noqa: PLC0415

        values = dotenv_values(path, interpolate=False)
    except (OSError, UnicodeDecodeError) as error:
        raise ProfileError(f"cannot read {path}: {_reason(error)}") from None
    return {name: value for name, value in values.items() if value is not None}


def profile_names(environment: Mapping[str, str] | None = None) -> list[str]:
    """Return the names of the profiles in the configuration file."""
    return list(_profiles(os.environ if environment is None else environment)[0])


def _from_source(profile: str | None, variables: Mapping[str, str], folder: Path) -> Connection:
    if profile is not None:
        return _profile(profile, variables)
    if variables.get(_URL):
        return _from_variables(variables)
    if name := variables.get(_PROFILE):
        return _profile(name, variables)
    dotenv = dotenv_of(folder)
    if dotenv.get(_URL):
        return _from_variables(dotenv)
    if name := dotenv.get(_PROFILE) or _profiles(variables)[1]:
        return _profile(name, variables)
    return _from_variables({**variables, _URL: DEFAULT_URL})


def _from_variables(variables: Mapping[str, str]) -> Connection:
    return Connection(variables[_URL], variables.get(_TOKEN, ""), variables.get(_ORGANIZATION, ""))


def _profile(name: str, variables: Mapping[str, str]) -> Connection:
    profiles, _default = _profiles(variables)
    fields = profiles.get(name)
    if fields is None:
        known = ", ".join(profiles) or "none"
        raise ProfileError(f"{_path(variables)} has no profile {name!r}; it has: {known}")
    if (problem := _problem_of(fields)) is not None:
        raise ProfileError(f"{_path(variables)}: the profile {name!r} {problem}")
    token = fields.get("token", "")
    if token:
        _check_private(_path(variables))
    elif "token_file" in fields:
        # Unlike Path.expanduser, this leaves the home folder of an unknown user as it is.
        token = _token_of(Path(os.path.expanduser(fields["token_file"])))  # noqa: PTH111
    return Connection(fields["url"], token, fields.get("organization", ""))


def _problem_of(fields: Mapping[str, Any]) -> str | None:
    for field, value in fields.items():
        if field not in _FIELDS:
            return f"has the unknown field {field!r}"
        if not isinstance(value, str) or "\0" in value:
            # The value may be a token.
            return f"has the field {field!r}, which is not text; write it in quotes"
    return None if "url" in fields else "has no url"


def _token_of(path: Path) -> str:
    try:
        _check_private(path)
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ProfileError(f"cannot read the token file {path}: {_reason(error)}") from None


def _check_private(path: Path) -> None:
    """Refuse a file with a token that other users may read.

    Raises:
        ProfileError: they may.
    """
    if path.stat().st_mode & _OTHERS:
        raise ProfileError(f"{path} has a token and other users may read it: chmod 600 {path}")


def _profiles(variables: Mapping[str, str]) -> tuple[dict[str, dict[str, Any]], str | None]:
    path = _path(variables)
    try:
        document = tomllib.loads(path.read_text())
    except FileNotFoundError:
        return {}, None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ProfileError(f"cannot read {path}: {_reason(error)}") from None
    except RecursionError:
        raise ProfileError(f"cannot read {path}: nested too deeply") from None
    profiles, default = document.get("profiles", {}), document.get("default")
    is_valid = isinstance(profiles, dict) and all(isinstance(p, dict) for p in profiles.values())
    if not is_valid or not isinstance(default, str | None):
        raise ProfileError(f"{path}: write profiles as [profiles.name], and default as a name")
    return profiles, default


def _path(variables: Mapping[str, str]) -> Path:
    if named := variables.get(_CONFIG):
        return Path(named)
    # Unlike Path.expanduser, this does not fail in a container whose user has no home folder.
    home = Path(os.path.expanduser(variables.get("HOME", "~")))  # noqa: PTH111
    return Path(variables.get("XDG_CONFIG_HOME") or home / ".config") / "tailrace" / "config.toml"


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "not UTF-8 text"
    return str(error.strerror) if isinstance(error, OSError) else str(error)
