"""Which NATS the commands of operators talk to."""

import pytest

from tailrace.commands.operator_command import local_nats
from tailrace.errors import TailraceError


@pytest.fixture
def _folder_of_up(tmp_path, monkeypatch):
    """A folder in which ``tailrace up`` has run."""
    data = tmp_path / ".tailrace"
    data.mkdir()
    (data / "nats.url").write_text("nats://127.0.0.1:5000\n")
    (data / "nats.token").write_text("t0ken\n")
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("_folder_of_up")
def test_the_nats_of_this_folder_is_used():
    """Its token stays in its file."""
    assert local_nats({"TAILRACE_PREFIX": "x"}) == {
        "NATS_URL": "nats://127.0.0.1:5000",
        "TAILRACE_NATS_TOKEN_FILE": ".tailrace/nats.token",
    }


@pytest.mark.parametrize("name", ["NATS_URL", "TAILRACE_NATS_CREDS_FILE"])
@pytest.mark.usefixtures("_folder_of_up")
def test_settings_name_another(name):
    assert local_nats({name: "x"}) == {}


def test_a_folder_without_one_leaves_the_default(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert local_nats({}) == {}


@pytest.mark.usefixtures("_folder_of_up")
def test_a_file_that_is_not_text_is_one_line(tmp_path):
    """The default NATS would be another one."""
    (tmp_path / ".tailrace" / "nats.url").write_bytes(b"\xff")
    with pytest.raises(TailraceError, match=r"cannot read .tailrace/nats.url: not UTF-8 text"):
        local_nats({})
