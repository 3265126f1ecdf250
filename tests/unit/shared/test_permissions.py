"""The permissions of services cover the topology."""

import pytest

from tailrace_shared.admin.permissions import configuration, permissions_of
from tailrace_shared.nats import topology as topology_module
from tailrace_shared.nats.topology import RATE, topology
from tailrace_shared.settings import CommonSettings
from tailrace_shared.subjects import Subjects


@pytest.mark.parametrize("prefix", ["tr", "shop"])
def test_every_stream_is_covered(prefix):
    """A new stream needs an entry."""
    settings = CommonSettings(prefix=prefix)
    found = permissions_of(settings)
    for spec in topology(settings):
        assert f"$JS.API.STREAM.*.{spec.name}" in found["admin"].publish
        for service in ("api", "worker"):
            assert f"$JS.API.STREAM.INFO.{spec.name}" in found[service].publish
    assert f"$JS.API.STREAM.CREATE.{Subjects(prefix).stream(RATE)}" in found["api"].publish
    names = {
        value
        for name, value in vars(topology_module).items()
        if name.isupper() and isinstance(value, str) and not name.endswith("_KEY")
    }
    managed = {subject.rpartition(".")[2] for subject in found["admin"].publish}
    for name in names:
        stream = Subjects(prefix).stream(name)
        assert {stream, f"KV_{stream}"} & managed, name


def test_nothing_reaches_another_installation():
    """Each subject names this one, or its streams."""
    for name, each in permissions_of(CommonSettings(prefix="shop")).items():
        for subject in (*each.publish, *each.subscribe):
            tokens = subject.split(".")
            is_own = "shop" in subject or subject == "$JS.API.INFO"
            assert is_own, (name, subject)
            assert tokens[0] not in {">", "*"}


def test_the_configuration_names_a_variable_for_each_user():
    text = configuration(CommonSettings())
    for user in ("API", "WORKER", "ADMIN"):
        assert f"{user}_PERMISSIONS = {{" in text
    assert text.count("allow_responses: true") == 3
