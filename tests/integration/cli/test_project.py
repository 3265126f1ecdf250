"""A new project whose tests start a system."""

import os
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner

from tailrace.cli import cli

_TEST = """
import yaml

from tailrace import Client


def test_the_system_runs_the_workflow(tailrace_up):
    with Client(tailrace_up) as client:
        with open("greet.yaml") as file:
            client.apply(yaml.safe_load(file))
        assert client.run("greet", {"name": "Ada"}).result().output == "Hello, Ada!"
"""


def test_a_project_tests_against_a_system(tmp_path: Path) -> None:
    """The fixture `tailrace_up` runs one on free ports, with the project's node functions."""
    project = tmp_path / "a project"
    assert CliRunner().invoke(cli, ["init", str(project)]).exit_code == 0
    (project / "test_system.py").write_text(_TEST)
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_system.py"],
        cwd=project,
        env={**os.environ, "TAILRACE_NODES": "nodes", "PYTHONPATH": str(project)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "1 passed" in ended.stdout
