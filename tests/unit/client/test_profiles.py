"""Where a client connects."""

from pathlib import Path

import pytest

from tailrace.errors import ProfileError
from tailrace.profiles import DEFAULT_URL, Connection, connection_of, profile_names

CONFIG = """
default = "local"

[profiles.local]
url = "http://local:1"

[profiles.production]
url = "https://production"
token_file = "{folder}/token"
organization = "acme"
"""
ENVIRONMENT = {"TAILRACE_URL": "http://env:1", "TAILRACE_TOKEN": "e", "TAILRACE_ORGANIZATION": "o"}


@pytest.fixture
def config(tmp_path: Path) -> dict[str, str]:
    """An environment with a configuration file, and a token that only its owner may read."""
    (tmp_path / "token").write_text("secret\n")
    (tmp_path / "token").chmod(0o600)
    path = tmp_path / "config.toml"
    path.write_text(CONFIG.replace("{folder}", str(tmp_path)))
    return {"TAILRACE_CONFIG": str(path)}


def test_the_sources_have_an_order(config: dict[str, str], tmp_path: Path) -> None:
    """Argument, profile, environment, named profile, .env, default profile."""
    production = Connection("https://production", "secret", "acme")
    both = {**config, **ENVIRONMENT}
    assert connection_of("http://x", environment=both, folder=tmp_path) == Connection("http://x")
    assert connection_of(profile="production", environment=both, folder=tmp_path) == production
    assert connection_of(environment=both, folder=tmp_path) == Connection("http://env:1", "e", "o")
    named = {**config, "TAILRACE_PROFILE": "production"}
    (tmp_path / ".env").write_text("# mine\nexport TAILRACE_URL='http://dotenv:1'\n")
    assert connection_of(environment=named, folder=tmp_path) == production
    dotenv = connection_of(environment=config, folder=tmp_path)
    assert dotenv == Connection("http://dotenv:1")
    (tmp_path / ".env").write_text("OTHER=1\n")
    assert connection_of(environment=config, folder=tmp_path) == Connection("http://local:1")


def test_without_any_source_it_is_this_machine(tmp_path: Path) -> None:
    """With the credentials of the environment."""
    environment = {"TAILRACE_TOKEN": "e", "HOME": str(tmp_path)}
    assert connection_of(environment=environment, folder=tmp_path) == Connection(DEFAULT_URL, "e")


def test_a_token_goes_only_to_the_api_of_its_source(config: dict[str, str], tmp_path: Path) -> None:
    """One of the environment does not go where .env or a profile points."""
    environment = {**config, "TAILRACE_TOKEN": "e"}
    assert connection_of(environment=environment, folder=tmp_path).token == ""
    (tmp_path / ".env").write_text("TAILRACE_URL=http://dotenv:1\n")
    assert connection_of(environment=environment, folder=tmp_path).token == ""


def test_a_token_that_others_may_read_is_refused(config: dict[str, str], tmp_path: Path) -> None:
    """The message has the command that repairs it, and not the token."""
    (tmp_path / "token").chmod(0o644)
    with pytest.raises(ProfileError, match="chmod 600") as caught:
        connection_of(profile="production", environment=config)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no profile 'x'; it has: none"),
        ("[profiles.x]\n", "has no url"),
        ("[profiles.x]\nurl = 'http://a'\nuser = 'b'\n", "has the unknown field 'user'"),
        ("profiles = 1\n", "write profiles as"),
        ("[profiles", "cannot read"),
        ("a = " + "[" * 2000, "cannot read .* nested too deeply"),
        ("[profiles.x]\nurl = 5\n", "the field 'url', which is not text"),
        ("[profiles.x]\nurl = 'http://a'\ntoken = 5\n", "the field 'token', which is not text"),
        (
            "[profiles.x]\nurl = 'http://a'\ntoken_file = 5\n",
            "the field 'token_file', which is not text",
        ),
        (
            "[profiles.x]\nurl = ''\ntoken_file = \"a\\u0000b\"\n",
            "the field 'token_file', which is not text",
        ),
        (
            "[profiles.x]\nurl = 'http://a'\norganization = 5\n",
            "the field 'organization', which is not text",
        ),
    ],
)
def test_a_file_that_is_not_usable_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    """It names the file."""
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(ProfileError, match=message) as caught:
        connection_of(profile="x", environment={"TAILRACE_CONFIG": str(path)})
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read_are_one_line(tmp_path: Path) -> None:
    """Not UTF-8, or a folder."""
    for name, environment in (
        (".env", {"HOME": str(tmp_path)}),
        ("config.toml", {"TAILRACE_CONFIG": str(tmp_path / "config.toml")}),
    ):
        path = tmp_path / name
        path.write_bytes(b"TAILRACE_URL=\xff")
        with pytest.raises(ProfileError, match=f"cannot read {path}: not UTF-8 text"):
            connection_of(environment=environment, folder=tmp_path)
        path.unlink()
    (tmp_path / "config.toml").mkdir()
    environment = {"TAILRACE_CONFIG": str(tmp_path / "config.toml")}
    with pytest.raises(ProfileError, match="Is a directory"):
        connection_of(environment=environment, folder=tmp_path)


def test_a_user_without_a_home_folder_has_no_profiles(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As in a container with an arbitrary user id."""
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    assert connection_of(environment={}, folder=tmp_path) == Connection(DEFAULT_URL)


def test_a_token_in_the_home_folder_of_an_unknown_user_is_not_found(tmp_path: Path) -> None:
    """The error names the file."""
    path = tmp_path / "config.toml"
    path.write_text("[profiles.x]\nurl = 'http://a'\ntoken_file = '~none/x'\n")
    with pytest.raises(ProfileError, match="cannot read the token file ~none/x: No such file"):
        connection_of(profile="x", environment={"TAILRACE_CONFIG": str(path)})


def test_profiles_have_names(config: dict[str, str]) -> None:
    """For the completion of a shell."""
    assert profile_names(config) == ["local", "production"]
