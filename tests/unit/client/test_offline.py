"""Definitions are checked without a server."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from tailrace.cli import cli

BROKEN = """\
id: w
nodes:
  a:
    type: transfrm
    with: {value: 1}
  b: {type: log, needs: [c], with: {message: x}}
"""
NOWHERE = "http://127.0.0.1:9"


def test_problems_have_lines_and_columns(tmp_path: Path) -> None:
    """In the order of the file; an API that cannot be reached is not needed."""
    file = tmp_path / "w.yaml"
    file.write_text(BROKEN)
    ended = CliRunner().invoke(cli, ["validate", "--url", NOWHERE, str(file)])
    assert ended.exit_code == 1
    assert ended.stderr.splitlines() == [
        (
            f"{file}:4:5: /nodes/a/type: no worker provides the node type 'transfrm', "
            "did you mean 'transform'?"
        ),
        f"{file}:6:26: /nodes/b/needs/0: there is no node 'c'",
    ]


def test_standard_input_is_checked() -> None:
    """As a file that is called -."""
    text = BROKEN.replace("transfrm", "transform").replace("[c]", "[a]")
    ended = CliRunner().invoke(cli, ["validate", "--offline", "--json", "-"], input=text)
    assert ended.exit_code == 0
    (answer,) = json.loads(ended.stdout)
    assert (answer["file"], answer["workflow_id"], answer["valid"]) == ("-", "w", True)


@pytest.mark.parametrize("name", ["TAILRACE_URL", "TAILRACE_PROFILE"])
def test_offline_no_address_is_needed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    """Not even a valid one."""
    monkeypatch.setenv(name, "foo")
    file = tmp_path / "w.yaml"
    file.write_text("id: w\nnodes: {a: {type: log, with: {message: x}}}\n")
    assert CliRunner().invoke(cli, ["validate", "--offline", str(file)]).exit_code == 0
    assert CliRunner().invoke(cli, ["validate", str(file)]).exit_code == 2


def test_modules_of_nodes_that_cannot_be_imported_are_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One line, as at the start of a worker."""
    monkeypatch.setenv("TAILRACE_NODES", "no_such_module")
    ended = CliRunner().invoke(cli, ["nodes"])
    assert ended.exit_code == 1
    assert ended.stderr.startswith("tailrace: cannot load nodes from no_such_module")


def test_node_types_and_the_schema_of_definitions_are_printed() -> None:
    """Both know the parameters of each node type."""
    shown = CliRunner().invoke(cli, ["nodes", "delay", "--json"])
    (delay,) = json.loads(shown.stdout)
    assert set(delay["parameters"]) == {"duration", "until"}
    assert CliRunner().invoke(cli, ["nodes", "dely"]).exit_code == 1
    printed = CliRunner().invoke(cli, ["schema"])
    types = json.loads(printed.stdout)["$defs"]["Node"]["properties"]["type"]["enum"]
    assert {"transform", "http", "await"} <= set(types)
