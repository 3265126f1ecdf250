"""The secret store finds mounted secrets, for the tenants that may use them."""

from pathlib import Path

import pytest

from tailrace_shared.errors import SettingsError
from tailrace_worker.secrets.secret_store import MAX_BYTES, SecretError, SecretStore

ENVIRONMENT = {"TAILRACE_SECRET_API_KEY": "from the environment"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Mounted secrets of two tenants, and a shared one."""
    for place in ["api-key", "acme/api-key", "other/own"]:
        file = tmp_path / place
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"from {place}\n")
    return tmp_path


async def value_of(store: SecretStore, tenant: str, name: str) -> str:
    """Return one secret of a tenant."""
    return (await store.get(tenant, {name})).values[name]


async def refusal_of(store: SecretStore, tenant: str, name: str) -> str:
    """Return the error for a secret of a tenant."""
    with pytest.raises(SecretError) as refused:
        await store.get(tenant, {name})
    return str(refused.value)


async def test_a_tenants_own_file_comes_before_a_shared_one_and_that_before_a_variable(
    folder: Path,
):
    """The most specific place wins, and a trailing newline is removed."""
    store = SecretStore(str(folder), "acme, default", ENVIRONMENT)
    assert await value_of(store, "acme", "api-key") == "from acme/api-key"
    assert await value_of(store, "default", "api-key") == "from api-key"
    (folder / "api-key").unlink()
    assert await value_of(store, "default", "api-key") == "from the environment"


async def test_shared_secrets_are_only_for_the_listed_tenants(folder: Path):
    """Other tenants can read only the files in their own folder."""
    store = SecretStore(str(folder), "default", ENVIRONMENT)
    assert await value_of(store, "other", "own") == "from other/own"
    for name in ["api-key", "api_key", "API_KEY"]:
        assert "(TAILRACE_SECRETS_TENANTS)" in await refusal_of(store, "other", name)
    assert "secret 'own' does not exist" in await refusal_of(store, "default", "own")


async def test_a_star_lists_all_tenants(folder: Path):
    """This suits an installation whose tenants trust each other."""
    store = SecretStore(str(folder), "*", ENVIRONMENT)
    assert await value_of(store, "other", "api-key") == "from api-key"


@pytest.mark.parametrize(
    "name",
    [
        "../other/own",
        "acme/api-key",
        "..",
        ".",
        "",
        "/etc/hostname",
        "a\0b",
        "acme",
        "x" * 65,
        "a.b",
    ],
)
async def test_no_name_escapes_a_tenants_folder(folder: Path, name: str):
    """It leads neither upwards nor into the folder of another tenant (CWE-22)."""
    store = SecretStore(str(folder / "acme"), "default")
    assert "own" not in (await refusal_of(store, "default", name)).replace(repr(name), "")
    assert "secret" in await refusal_of(SecretStore(str(folder), "default"), "default", name)


async def test_the_error_of_a_missing_secret_lists_the_searched_places(folder: Path):
    """An operator can see where to mount it."""
    with_folder = SecretStore(str(folder), "default")
    assert await refusal_of(with_folder, "default", "pay-key") == (
        "secret 'pay-key' does not exist: looked for the file default/pay-key, the file pay-key, "
        "the variable TAILRACE_SECRET_PAY_KEY"
    )
    assert await refusal_of(SecretStore("", "default"), "acme", "pay-key") == (
        "secret 'pay-key' does not exist: looked for files, but TAILRACE_SECRETS_DIR is not set, "
        "no shared secrets, as 'acme' may not use them (TAILRACE_SECRETS_TENANTS)"
    )


async def test_a_changed_file_takes_effect_at_the_next_attempt(folder: Path):
    """It is rotated by a rename, as Kubernetes does."""
    store = SecretStore(str(folder), "default")
    before = await store.get("default", {"api-key"})
    (folder / "next").write_text("rotated\r\n")
    (folder / "next").rename(folder / "api-key")
    after = await store.get("default", {"api-key"})
    assert after.values == {"api-key": "rotated"}
    assert before.redactor.redact_text("from api-key rotated") == "*** rotated"
    assert store.redact("from api-key rotated") == "*** ***"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"abc", "shorter than 4 characters"),
        (b"abc\n", "shorter than 4 characters"),
        (b"x" * (MAX_BYTES + 1), f"longer than {MAX_BYTES} bytes"),
        (b"\xff\xfe\xfd\xfc", "not UTF-8"),
    ],
)
async def test_a_secret_that_cannot_be_redacted_is_refused(folder: Path, content: bytes, why: str):
    """The error does not contain it."""
    (folder / "api-key").write_bytes(content)
    refusal = await refusal_of(SecretStore(str(folder), "default"), "default", "api-key")
    assert why in refusal
    assert repr(content.decode(errors="replace"))[1:-1] not in refusal


async def test_a_variable_must_meet_the_same_conditions():
    """Python decodes an invalid byte in the environment as a lone surrogate."""
    for value, why in [("abc", "shorter"), ("abc\udcff", "not UTF-8"), ("x" * 20_000, "longer")]:
        store = SecretStore("", "default", {"TAILRACE_SECRET_X": value})
        assert why in await refusal_of(store, "default", "x")


def test_invalid_settings_are_refused_at_startup(tmp_path: Path):
    """Rather than when the first run needs a secret."""
    with pytest.raises(SettingsError, match=r"TAILRACE_SECRETS_DIR.*the folder does not exist"):
        SecretStore(str(tmp_path / "nowhere"))
    with pytest.raises(SettingsError, match=r"TAILRACE_SECRETS_TENANTS.*'\.\./x' is not a tenant"):
        SecretStore("", "acme, ../x")


async def test_the_repr_of_secrets_contains_no_value(folder: Path):
    """Debuggers and tracebacks print the repr."""
    store = SecretStore(str(folder), "default", ENVIRONMENT)
    secrets = await store.get("default", {"api-key"})
    assert "from api-key" not in f"{store!r} {secrets!r} {secrets.redactor!r}"


@pytest.mark.parametrize("value", ["ab" * 2000, "one line\n" + "x" * 500])
async def test_a_secret_that_repeats_itself_is_refused(tmp_path: Path, value: str):
    """A search for it in a similar response would take seconds."""
    (tmp_path / "default").mkdir()
    (tmp_path / "default" / "dull").write_text(value)
    store = SecretStore(str(tmp_path), "default")
    assert "repeats itself" in await refusal_of(store, "default", "dull")


async def test_a_key_with_some_repetition_is_accepted(tmp_path: Path):
    """The limit applies to repetitions of the secret's beginning."""
    value = f"-----BEGIN KEY-----\nMIIE{'A' * 60}\n{'A' * 64}\nQ{'A' * 2000}\n-----END KEY-----"
    (tmp_path / "key").write_text(value)
    assert await value_of(SecretStore(str(tmp_path), "default"), "default", "key") == value
