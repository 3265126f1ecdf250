"""Secrets are found where they are mounted, by those who may have them."""

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
    """Return why a tenant cannot have a secret."""
    with pytest.raises(SecretError) as refused:
        await store.get(tenant, {name})
    return str(refused.value)


async def test_a_tenants_own_file_comes_before_a_shared_one_and_that_before_a_variable(
    folder: Path,
):
    """The closest place wins; a trailing newline is nobody's secret."""
    store = SecretStore(str(folder), "acme, default", ENVIRONMENT)
    assert await value_of(store, "acme", "api-key") == "from acme/api-key"
    assert await value_of(store, "default", "api-key") == "from api-key"
    (folder / "api-key").unlink()
    assert await value_of(store, "default", "api-key") == "from the environment"


async def test_shared_secrets_are_for_the_tenants_that_are_listed(folder: Path):
    """Another has its own files only, whatever it asks for."""
    store = SecretStore(str(folder), "default", ENVIRONMENT)
    assert await value_of(store, "other", "own") == "from other/own"
    for name in ["api-key", "api_key", "API_KEY"]:
        assert "(TAILRACE_SECRETS_TENANTS)" in await refusal_of(store, "other", name)
    assert "secret 'own' does not exist" in await refusal_of(store, "default", "own")


async def test_a_star_lists_all_tenants(folder: Path):
    """For an installation whose tenants trust each other."""
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
async def test_no_name_leads_out_of_a_tenants_folder(folder: Path, name: str):
    """Neither up, nor into the folder of another."""
    store = SecretStore(str(folder / "acme"), "default")
    assert "own" not in (await refusal_of(store, "default", name)).replace(repr(name), "")
    assert "secret" in await refusal_of(SecretStore(str(folder), "default"), "default", name)


async def test_a_missing_secret_is_said_with_where_it_was_looked_for(folder: Path):
    """Whoever mounts it need not guess."""
    with_folder = SecretStore(str(folder), "default")
    assert await refusal_of(with_folder, "default", "pay-key") == (
        "secret 'pay-key' does not exist: looked for the file default/pay-key, the file pay-key, "
        "the variable TAILRACE_SECRET_PAY_KEY"
    )
    assert await refusal_of(SecretStore("", "default"), "acme", "pay-key") == (
        "secret 'pay-key' does not exist: looked for files, but TAILRACE_SECRETS_DIR is not set, "
        "no shared secrets, as 'acme' may not use them (TAILRACE_SECRETS_TENANTS)"
    )


async def test_a_file_that_changes_counts_from_the_next_attempt_on(folder: Path):
    """Rotated by a rename, as a cluster does it."""
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
async def test_what_cannot_be_kept_secret_is_refused(folder: Path, content: bytes, why: str):
    """And is not quoted."""
    (folder / "api-key").write_bytes(content)
    refusal = await refusal_of(SecretStore(str(folder), "default"), "default", "api-key")
    assert why in refusal
    assert repr(content.decode(errors="replace"))[1:-1] not in refusal


async def test_a_variable_is_held_to_the_same():
    """A byte that is no text comes as half of a surrogate pair."""
    for value, why in [("abc", "shorter"), ("abc\udcff", "not UTF-8"), ("x" * 20_000, "longer")]:
        store = SecretStore("", "default", {"TAILRACE_SECRET_X": value})
        assert why in await refusal_of(store, "default", "x")


def test_settings_that_cannot_be_are_refused_at_the_start(tmp_path: Path):
    """Not when the first run asks for a secret."""
    with pytest.raises(SettingsError, match=r"TAILRACE_SECRETS_DIR.*the folder does not exist"):
        SecretStore(str(tmp_path / "nowhere"))
    with pytest.raises(SettingsError, match=r"TAILRACE_SECRETS_TENANTS.*'\.\./x' is not a tenant"):
        SecretStore("", "acme, ../x")


async def test_nothing_of_a_secret_is_in_how_it_prints(folder: Path):
    """Debuggers print what they find."""
    store = SecretStore(str(folder), "default", ENVIRONMENT)
    secrets = await store.get("default", {"api-key"})
    assert "from api-key" not in f"{store!r} {secrets!r} {secrets.redactor!r}"


@pytest.mark.parametrize("value", ["ab" * 2000, "one line\n" + "x" * 500])
async def test_a_secret_that_repeats_itself_is_refused(tmp_path: Path, value: str):
    """An answer that nearly is it, often, would keep a worker searching for seconds."""
    (tmp_path / "default").mkdir()
    (tmp_path / "default" / "dull").write_text(value)
    store = SecretStore(str(tmp_path), "default")
    assert "repeats itself" in await refusal_of(store, "default", "dull")


async def test_a_key_with_much_alike_in_it_is_a_secret(tmp_path: Path):
    """What counts is how often it is begun anew."""
    value = f"-----BEGIN KEY-----\nMIIE{'A' * 60}\n{'A' * 64}\nQ{'A' * 2000}\n-----END KEY-----"
    (tmp_path / "key").write_text(value)
    assert await value_of(SecretStore(str(tmp_path), "default"), "default", "key") == value
