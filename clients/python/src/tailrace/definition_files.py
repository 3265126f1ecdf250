"""Read workflow definitions from YAML and JSON files and from folders of them.

YAML is parsed by its 1.2 core schema, because a definition becomes JSON: ``on`` and ``yes`` are
text, and so are ``12:30`` and ``2026-01-01``. A duplicate key, which JSON and YAML parsers drop
silently, is an error.
"""

import math
import re
import sys
from collections.abc import Callable, Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple

import msgspec
import yaml

from tailrace.errors import DefinitionFileError
from tailrace.strict_json import MAX_DEPTH, MAX_DIGITS, NotJsonError, parse_json

ENDINGS: Final = frozenset({".yaml", ".yml", ".json"})

STANDARD_INPUT: Final = Path("-")
_MAX_DIGITS: Final = 9

# Several times the API's limit of a definition, which is 1 MiB of JSON.
_MAX_CHARACTERS: Final = 8 * 1024 * 1024

# libyaml is ten times faster; a pure Python PyYAML reads the same.
try:
    from yaml import CSafeLoader as _Loader
except ImportError:
    from yaml import SafeLoader as _Loader  # type: ignore[assignment]


class Place(NamedTuple):
    """A place in a file; both numbers begin with 1."""

    line: int
    column: int


class DefinitionFile(NamedTuple):
    """A definition, the path it was read from, and its text."""

    path: Path
    definition: dict[str, Any]
    text: str = ""

    def place(self, pointer: str) -> Place | None:
        """Return where a JSON pointer leads in the text, or the nearest place that exists."""
        return place_of(self.text, pointer)

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
    found = [file for path in _files(paths) for file in _read_all(path)]
    by_id: dict[str, Path] = {}
    for file in found:
        is_known = file.workflow_id in by_id
        first = by_id.setdefault(file.workflow_id, file.path)
        if file.workflow_id and is_known:
            raise DefinitionFileError(f"{first} and {file.path} both define {file.workflow_id!r}")
    return found


def read_definition(path: Path) -> dict[str, Any]:
    """Read one definition.

    Raises:
        DefinitionFileError: with the file, and the line if the parser reports it.
    """
    return _read(path).definition


def _read_all(path: Path) -> list[DefinitionFile]:
    if path.suffix != ".py":
        return [_read(path)]
    # Imported on use: most definitions are no Python.
    from tailrace.workflow.loading import load_workflows  # noqa: PLC0415

    return [DefinitionFile(path, definition) for definition in load_workflows(path)]


def place_of(text: str, pointer: str) -> Place | None:
    """Return where a JSON pointer leads in a YAML or JSON text.

    The place of a field is that of its key. A missing one has the place of its object.
    """
    try:
        node = yaml.compose(text, _CoreLoader)
    except yaml.YAMLError:
        return None
    if node is None:
        return None
    mark = node.start_mark
    for token in pointer.split("/")[1:]:
        found = _child(node, token.replace("~1", "/").replace("~0", "~"))
        if found is None:
            break
        mark, node = found
    return Place(mark.line + 1, mark.column + 1)


def _child(node: yaml.Node, token: str) -> tuple[yaml.Mark, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == token:
                return key.start_mark, value
    elif isinstance(node, yaml.SequenceNode) and token.isdecimal() and len(token) < _MAX_DIGITS:
        index = int(token)
        if index < len(node.value):
            return node.value[index].start_mark, node.value[index]
    return None


def _read(path: Path) -> DefinitionFile:
    try:
        text = _text(path)
    except (OSError, UnicodeDecodeError) as error:
        raise DefinitionFileError(f"{path}: {_reason(error)}") from None
    try:
        document = parse_json(text) if path.suffix == ".json" else _parse_yaml(text)
        msgspec.json.encode(document)
    except yaml.YAMLError as error:
        raise DefinitionFileError(f"{path}{_place(error)}") from None
    except NotJsonError as error:
        raise DefinitionFileError(f"{path}{error.place}: {error}") from None
    except (TypeError, ValueError, OverflowError, RecursionError):
        raise DefinitionFileError(f"{path}: the definition cannot be written as JSON") from None
    if not isinstance(document, dict):
        raise DefinitionFileError(f"{path}: a definition is a mapping with 'id' and 'nodes'")
    return DefinitionFile(path, document, text)


def _text(path: Path) -> str:
    if path == STANDARD_INPUT:
        return sys.stdin.buffer.read().decode("utf-8-sig")
    return path.read_text("utf-8-sig")


def _parse_yaml(text: str) -> Any:
    _check_size(text)
    return yaml.load(text, _CoreLoader)  # noqa: S506 - a SafeLoader with fewer types


def _check_size(text: str) -> None:
    """Refuse deep nesting, which would crash libyaml, and aliases that multiply the document."""
    sizes: dict[str, int] = {}
    # For each open collection its anchor and its size.
    open_: list[tuple[str | None, int]] = [(None, 0)]
    for event in yaml.parse(text, _CoreLoader):
        anchor, size = getattr(event, "anchor", None), 0
        if isinstance(event, yaml.CollectionStartEvent):
            if len(open_) > MAX_DEPTH:
                raise _problem(f"nested more than {MAX_DEPTH} levels deep", event)
            open_.append((anchor, 1))
            continue
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, size = open_.pop()
        elif isinstance(event, yaml.ScalarEvent):
            size = 1 + len(event.value)
        elif isinstance(event, yaml.AliasEvent):
            if any(anchor == name for name, _size in open_):
                raise _problem(f"the value of &{anchor} contains itself", event)
            anchor, size = None, sizes.get(str(event.anchor), 0)
        if anchor:
            sizes[anchor] = size
        outer, total = open_[-1]
        if total + size > _MAX_CHARACTERS:
            raise _problem("too large with its aliases", event)
        open_[-1] = (outer, total + size)


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if path == STANDARD_INPUT or not path.is_dir():
            yield path
            continue
        try:
            inside = sorted(entry for entry in path.iterdir() if entry.suffix in ENDINGS)
        except OSError as error:
            raise DefinitionFileError(f"{path}: {_reason(error)}") from None
        if not inside:
            raise DefinitionFileError(f"{path}: no .yaml, .yml or .json file in this folder")
        yield from inside


def _reason(error: OSError | UnicodeDecodeError) -> str:
    return "not UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(error.strerror)


def _place(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = " ".join((getattr(error, "problem", None) or str(error)).split())
    if isinstance(error, yaml.scanner.ScannerError) and "cannot start any token" in problem:
        problem += (
            ": indent with spaces, and put text that begins with a special character in quotes"
        )
    return f":{mark.line + 1}:{mark.column + 1}: {problem}" if mark else f": {problem}"


def _problem(problem: str, at: Any) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, problem, at.start_mark)


class _CoreLoader(_Loader):
    """A loader for the YAML 1.2 core schema that requires unique text keys and JSON values."""

    yaml_implicit_resolvers: dict[str | None, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own attribute
    yaml_constructors: ClassVar[dict[str | None, Any]] = {}

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        """Build a mapping; reject keys that are duplicates or not text."""
        keys: set[str] = set()
        # A scalar that is tagged as a mapping is refused by the library.
        pairs = node.value if isinstance(node, yaml.MappingNode) else ()
        for key, _ in pairs:
            # A merge key adds defaults, which the mapping's other keys may override.
            if key.tag == "tag:yaml.org,2002:merge":
                continue
            if key.tag != _TEXT or not isinstance(key, yaml.ScalarNode):
                raise _problem("a key must be text; put it in quotes", key)
            if key.value in keys:
                raise _problem(f"duplicate key {key.value!r}", key)
            keys.add(key.value)
        mapping: dict[Hashable, Any] = super().construct_mapping(node, deep)
        return mapping


def _integer(text: str) -> int:
    # The schema has no sign before 0x and 0o, and 010 is ten.
    bases = {"0x": 16, "0o": 8}
    return int(text[2:], bases[text[:2]]) if text[:2] in bases else int(text)


def _decimal(text: str) -> float:
    number = float(text.replace(".inf", "inf").replace(".nan", "nan"))
    if not math.isfinite(number) or (not number and re.search("[1-9]", text.partition("e")[0])):
        raise ValueError(f"{text[:40]} is not a number of JSON")
    return number


def _scalar(name: str, pattern: str, convert: Callable[[str], Any]) -> Callable[..., Any]:
    def construct(loader: Any, node: yaml.Node) -> Any:
        text = str(loader.construct_scalar(node))
        # An explicit tag may stand before any text.
        if re.fullmatch(pattern, text) is None:
            raise _problem(f"{text[:40]!r} is not of the type !!{name}", node)
        if len(text) > MAX_DIGITS:
            raise _problem(f"a number of {len(text)} characters; the limit is {MAX_DIGITS}", node)
        try:
            return convert(text.lower())
        except ValueError as error:
            raise _problem(str(error), node) from None

    return construct


_TEXT: Final = "tag:yaml.org,2002:str"
_FLOAT: Final = r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
_NOT_FINITE: Final = r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
_SCALARS: Final = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""], lambda _text: None),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF"), lambda text: text == "true"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789"), _integer),
    ("float", f"{_FLOAT}|{_NOT_FINITE}", list("-+.0123456789"), _decimal),
)
for _name, _pattern, _first, _convert in _SCALARS:
    _tag = f"tag:yaml.org,2002:{_name}"
    _CoreLoader.add_implicit_resolver(_tag, re.compile(rf"(?:{_pattern})\Z"), _first)
    _CoreLoader.add_constructor(_tag, _scalar(_name, _pattern, _convert))
_CoreLoader.add_implicit_resolver("tag:yaml.org,2002:merge", re.compile(r"<<\Z"), ["<"])
for _kept in (_TEXT, "tag:yaml.org,2002:seq", "tag:yaml.org,2002:map", None):
    _CoreLoader.yaml_constructors[_kept] = _Loader.yaml_constructors[_kept]
