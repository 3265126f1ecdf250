"""Read workflow definitions from YAML and JSON files and from folders of them.

YAML is parsed by its 1.2 core schema, because a definition becomes JSON: ``on`` and ``yes`` are
text, and so are ``12:30`` and ``2026-01-01``. A duplicate key, which JSON and YAML parsers drop
silently, is an error.
"""

import json
import re
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import yaml

from tailrace.errors import DefinitionFileError

ENDINGS: Final = frozenset({".yaml", ".yml", ".json"})

# libyaml is ten times faster; a pure Python PyYAML reads the same.
try:
    from yaml import CSafeLoader as _Loader
except ImportError:
    from yaml import SafeLoader as _Loader  # type: ignore[assignment]


class DefinitionFile(NamedTuple):
    """A definition and the path it was read from."""

    path: Path
    definition: dict[str, Any]

    @property
    def workflow_id(self) -> str:
        """Return the id, or an empty text if there is none; the API then reports the problem."""
        workflow_id = self.definition.get("id")
        return workflow_id if isinstance(workflow_id, str) else ""

    def body(self) -> bytes:
        """Return the definition as compact JSON, so whitespace does not count for the limit."""
        return msgspec.json.encode(self.definition)


def read_definitions(paths: Sequence[Path]) -> list[DefinitionFile]:
    """Read definitions from files, and from the files directly in folders.

    Raises:
        DefinitionFileError: with the file, and the line if the parser reports it.
    """
    found = [DefinitionFile(path, read_definition(path)) for path in _files(paths)]
    by_id: dict[str, Path] = {}
    for file in found:
        first = by_id.setdefault(file.workflow_id, file.path)
        if file.workflow_id and first != file.path:
            raise DefinitionFileError(f"{first} and {file.path} both define {file.workflow_id!r}")
    return found


def read_definition(path: Path) -> dict[str, Any]:
    """Read one definition.

    Raises:
        DefinitionFileError: with the file, and the line if the parser reports it.
    """
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DefinitionFileError(f"{path}: {_reason(error)}") from None
    try:
        document = _parse_json(text) if path.suffix == ".json" else _parse_yaml(text)
        # Some YAML is not JSON: lists as keys, values that contain themselves.
        msgspec.json.encode(document)
    except yaml.YAMLError as error:
        raise DefinitionFileError(f"{path}{_place(error)}") from None
    except json.JSONDecodeError as error:
        raise DefinitionFileError(f"{path}:{error.lineno}:{error.colno}: {error.msg}") from None
    except _NotJsonError as error:
        raise DefinitionFileError(f"{path}: {error}") from None
    except (TypeError, OverflowError, RecursionError):
        raise DefinitionFileError(f"{path}: the definition cannot be written as JSON") from None
    if not isinstance(document, dict):
        raise DefinitionFileError(f"{path}: a definition is a mapping with 'id' and 'nodes'")
    return document


class _NotJsonError(Exception):
    """The text is not strict JSON, although Python's parser accepts it."""


def _parse_json(text: str) -> Any:
    # Not parsed as YAML: tabs are not YAML, and large files would take seconds.
    return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping: dict[str, Any] = {}
    for key, value in pairs:
        if key in mapping:
            raise _NotJsonError(f"duplicate key {key!r} in one object")
        mapping[key] = value
    return mapping


def _refuse_constant(name: str) -> Any:
    raise _NotJsonError(f"{name} is not JSON")


def _parse_yaml(text: str) -> Any:
    return yaml.load(text, _CoreLoader)  # noqa: S506 - a SafeLoader with fewer types


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        inside = sorted(entry for entry in path.iterdir() if entry.suffix in ENDINGS)
        if not inside:
            raise DefinitionFileError(f"{path}: no .yaml, .yml or .json file in this folder")
        yield from inside


def _reason(error: OSError | UnicodeDecodeError) -> str:
    return "not UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(error.strerror)


def _place(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    return f":{mark.line + 1}:{mark.column + 1}: {problem}" if mark else f": {problem}"


def _mapping_error(problem: str, key: yaml.Node) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, problem, key.start_mark)


class _CoreLoader(_Loader):
    """A loader for the YAML 1.2 core schema that requires unique text keys."""

    yaml_implicit_resolvers: dict[str | None, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own attribute

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Build a mapping; reject keys that are duplicates or not text."""
        keys: set[str] = set()
        for key, _ in node.value:
            # A merge key adds defaults, which the mapping's other keys may override.
            if key.tag == "tag:yaml.org,2002:merge":
                continue
            if key.tag != "tag:yaml.org,2002:str":
                raise _mapping_error("a key must be text; put it in quotes", key)
            if key.value in keys:
                raise _mapping_error(f"duplicate key {key.value!r}", key)
            keys.add(key.value)
        mapping: dict[Hashable, Any] = super().construct_mapping(node, deep)
        return mapping


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(0|[1-9][0-9]*)", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
    ("merge", r"<<", ["<"]),
):
    _CoreLoader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"), _first
    )
