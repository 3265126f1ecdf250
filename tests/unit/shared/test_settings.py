"""Reading settings from the environment, and the generated configuration page."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace_shared.errors import SettingsError
from tailrace_shared.process.configuration_page import page
from tailrace_shared.process.settings_reader import read_settings, service_links
from tailrace_shared.settings import ApiSettings, ClientSettings, WorkerSettings, known_variables

PAGE = Path(__file__).parents[3] / "docs" / "configuration.md"


def test_an_empty_environment_gives_the_defaults():
    """Every setting has a default."""
    assert read_settings(ApiSettings, {"PATH": "/bin"}) == ApiSettings()
    assert read_settings(WorkerSettings, {}) == WorkerSettings()
    assert read_settings(ClientSettings, {}) == ClientSettings()


def test_settings_are_read_with_their_types():
    """Text, integer, boolean, duration and choice; NATS_URL has no prefix."""
    settings = read_settings(
        ApiSettings,
        {
            "NATS_URL": "nats://a:1,nats://b:2",
            "TAILRACE_HOST": "0.0.0.0",
            "TAILRACE_PORT": "9",
            "TAILRACE_ALLOW_OPEN_BIND": "true",
            "TAILRACE_HEARTBEAT": "250ms",
            "TAILRACE_LOG_FORMAT": "console",
        },
    )
    assert settings.nats_url == "nats://a:1,nats://b:2"
    assert (settings.host, settings.port, settings.allow_open_bind) == ("0.0.0.0", 9, True)
    assert (settings.heartbeat, settings.log_format) == (0.25, "console")


def test_settings_of_another_service_are_known():
    """All processes of a machine may share one environment."""
    assert read_settings(WorkerSettings, {"TAILRACE_PORT": "9"}) == WorkerSettings()


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("TAILRACE_PROT", "did you mean TAILRACE_PORT?"),
        ("TAILRACE_NODE", "did you mean TAILRACE_NODES?"),
        ("TAILRACE_NATS_URL", "did you mean NATS_URL?"),
        ("TAILRACE_", "unknown setting TAILRACE_"),
        ("TAILRACE_port", "unknown setting TAILRACE_port"),
    ],
)
def test_an_unknown_setting_is_refused_with_the_nearest_known_one(name, hint):
    """A typo must not silently select a default."""
    with pytest.raises(SettingsError, match=f"unknown setting {name}") as caught:
        read_settings(ApiSettings, {name: "1"})
    assert hint in str(caught.value)


@pytest.mark.parametrize(
    ("struct", "name", "value"),
    [
        (ApiSettings, "TAILRACE_PORT", "http"),
        (ApiSettings, "TAILRACE_PORT", ""),
        (ApiSettings, "TAILRACE_PORT", "65536"),
        (ApiSettings, "TAILRACE_PORT", "80.5"),
        (ApiSettings, "TAILRACE_ALLOW_OPEN_BIND", "maybe"),
        (ApiSettings, "TAILRACE_HEARTBEAT", "15"),
        (ApiSettings, "TAILRACE_HEARTBEAT", "0s"),
        (ApiSettings, "TAILRACE_STALL_TIMEOUT", "0ms"),
        (ApiSettings, "TAILRACE_AUTH", "basic"),
        (ApiSettings, "TAILRACE_MAX_BODY_BYTES", "1023"),
        (ApiSettings, "TAILRACE_DEFAULT_TENANT", "a.b"),
        (ApiSettings, "TAILRACE_PREFIX", "tr.>"),
        (WorkerSettings, "TAILRACE_WORKER_THREADS", "0"),
        (WorkerSettings, "TAILRACE_ACK_WAIT", "0s"),
        (WorkerSettings, "TAILRACE_LOG_LEVEL", "warn"),
    ],
)
def test_an_invalid_value_is_refused_with_the_name_of_the_variable(struct, name, value):
    """The message is one line that begins with the variable."""
    with pytest.raises(SettingsError, match=f"^{name}={value!r}: ") as caught:
        read_settings(struct, {name: value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("TAILRACE_PORT", "http", "must be an integer from 0 to 65535"),
        ("TAILRACE_PORT", "65536", "must be an integer from 0 to 65535"),
        ("TAILRACE_RING_BYTES", "1", "must be an integer from 64 KiB"),
        ("TAILRACE_DIRECT_WRITES", "maybe", "must be true or false"),
        ("TAILRACE_LOG_FORMAT", "xml", "must be json or console"),
    ],
)
def test_an_invalid_value_is_refused_with_the_rule(name, value, rule):
    """The message uses the terms of the configuration page, not Python's."""
    with pytest.raises(SettingsError) as caught:
        read_settings(ApiSettings, {name: value})
    assert str(caught.value) == f"{name}={value!r}: {rule}"


@given(st.sampled_from(sorted(known_variables())), st.text(st.characters(exclude_characters="\0")))
def test_any_value_is_read_or_refused(name, value):
    """No value of a variable crashes the reader."""
    for struct in (ApiSettings, WorkerSettings, ClientSettings):
        try:
            read_settings(struct, {name: value})
        except SettingsError:
            continue


def test_the_configuration_page_is_up_to_date():
    """Run ``just fmt`` if this fails."""
    assert PAGE.read_text() == page()


def test_the_configuration_page_lists_every_setting_once():
    """Each row has a name, type, default, description and the services that read it."""
    rows = [line for line in page().splitlines() if line.startswith("| `")]
    names = [re.match(r"\| `([A-Z_]+)` \|", row) for row in rows]
    assert sorted(name[1] for name in names if name) == sorted(known_variables())
    assert all(len([cell for cell in row.split("|") if cell.strip()]) == 5 for row in rows)


def test_variables_of_secrets_are_not_settings():
    """Their names are free, except for misspelled settings."""
    assert read_settings(WorkerSettings, {"TAILRACE_SECRET_PAYMENTS": "x"}) == WorkerSettings()
    with pytest.raises(SettingsError, match="did you mean TAILRACE_SECRETS_DIR"):
        read_settings(WorkerSettings, {"TAILRACE_SECRET_DIR": "/run/secrets"})


SERVICE_LINKS = {
    # What Kubernetes sets for Services named `tailrace` and `tailrace-api`.
    "TAILRACE_SERVICE_HOST": "10.96.3.7",
    "TAILRACE_SERVICE_PORT": "8080",
    "TAILRACE_SERVICE_PORT_HTTP": "8080",
    "TAILRACE_PORT": "tcp://10.96.3.7:8080",
    "TAILRACE_PORT_8080_TCP": "tcp://10.96.3.7:8080",
    "TAILRACE_PORT_8080_TCP_PROTO": "tcp",
    "TAILRACE_PORT_8080_TCP_PORT": "8080",
    "TAILRACE_PORT_8080_TCP_ADDR": "10.96.3.7",
    "TAILRACE_API_SERVICE_HOST": "10.96.3.8",
    "TAILRACE_API_SERVICE_PORT": "8080",
    "TAILRACE_API_PORT": "tcp://10.96.3.8:8080",
    "TAILRACE_API_PORT_8080_TCP_ADDR": "10.96.3.8",
}


def test_variables_of_kubernetes_services_are_ignored():
    """A setting of the same name does not take such a value."""
    assert read_settings(ApiSettings, SERVICE_LINKS) == ApiSettings()
    assert service_links(SERVICE_LINKS) == sorted(SERVICE_LINKS)


def test_a_setting_is_not_mistaken_for_a_service():
    """Only the value tells the port of the API from the link of a Service."""
    given = {"TAILRACE_PORT": "9000", "TAILRACE_METRICS_PORT": "9101"}
    assert read_settings(ApiSettings, given).port == 9000
    assert service_links(given) == []
    with pytest.raises(SettingsError, match="unknown setting TAILRACE_PROT"):
        read_settings(ApiSettings, {"TAILRACE_PROT": "9000"})
