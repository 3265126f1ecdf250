"""Definition files are parsed strictly."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tailrace.definition_files import read_definition, read_definitions
from tailrace.errors import DefinitionFileError


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a file and returns its path."""

    def write(text: str, name: str = "workflow.yaml") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def test_yaml_scalars_are_read_by_the_core_schema(write: Callable[..., Path]) -> None:
    """YAML 1.1 would read booleans, times, dates and octal numbers."""
    path = write("a: [on, no, 12:30, 2026-01-01, 0x10, .nan]\nb: [true, null, ~, 3, -1.5, 1e3]\n")

    assert read_definition(path) == {
        "a": ["on", "no", "12:30", "2026-01-01", "0x10", ".nan"],
        "b": [True, None, None, 3, -1.5, 1000.0],
    }


def test_a_merged_default_may_be_overridden(write: Callable[..., Path]) -> None:
    """Merge keys share fields between nodes."""
    path = write("base: &base {a: 1, b: 2}\nnode: {<<: *base, b: 3}\n")

    assert read_definition(path)["node"] == {"a": 1, "b": 3}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("nodes:\n  a: 1\n  a: 2\n", ":3:3: duplicate key 'a'"),
        ('{"a": 1, "a": 2}', ":1:10: duplicate key 'a'"),
        ("1: a\n", ":1:1: a key must be text"),
        ("a: [1\n", "did not find expected"),
        ("- a\n", "a definition is a mapping"),
        ("", "a definition is a mapping"),
        ("a: &a [*a]\n", "cannot be written as JSON"),
        ("a: !!python/object:os.system {}\n", "could not determine a constructor"),
    ],
)
def test_an_invalid_file_is_refused_with_its_place(
    write: Callable[..., Path], text: str, sentence: str
) -> None:
    """Most parsers would drop a duplicate key silently."""
    path = write(text)

    with pytest.raises(DefinitionFileError) as caught:
        read_definition(path)

    assert str(caught.value).startswith(str(path))
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"a": 1,\n"a": 2}', "duplicate key 'a'"),
        ('{"a": NaN}', "NaN is not JSON"),
        ('{"a": 1,\n b}', ":2:2: "),
        ("[]", "a definition is a mapping"),
        ("id: a", ":1:1: "),
    ],
)
def test_json_is_read_as_json(write: Callable[..., Path], text: str, sentence: str) -> None:
    """The file's ending selects the format; both are equally strict."""
    path = write(text, "workflow.json")

    with pytest.raises(DefinitionFileError) as caught:
        read_definition(path)

    assert sentence in str(caught.value)


def test_json_may_be_indented_with_tabs(write: Callable[..., Path]) -> None:
    """YAML may not, so that JSON is not simply YAML."""
    assert read_definition(write('{\n\t"id": "a"\n}', "workflow.json")) == {"id": "a"}


def test_a_folder_stands_for_the_definitions_directly_in_it(
    write: Callable[..., Path], tmp_path: Path
) -> None:
    """Other files, and folders inside, are not definitions."""
    write("id: b", "b.yaml")
    write('{"id": "a"}', "a.json")
    write("not: one", "notes.txt")
    (tmp_path / "samples").mkdir()
    write("id: c", "samples/c.yaml")

    found = read_definitions([tmp_path])

    assert [file.workflow_id for file in found] == ["a", "b"]


def test_two_files_that_define_one_workflow_are_refused(write: Callable[..., Path]) -> None:
    """The second would replace the first."""
    files = [write("id: a", "1.yaml"), write("id: a", "2.yaml")]

    with pytest.raises(DefinitionFileError, match="both define 'a'"):
        read_definitions(files)


def test_unreadable_files_are_one_line_errors(tmp_path: Path) -> None:
    """Missing, binary, or a folder with nothing in it."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")

    for path, sentence in (
        (tmp_path / "missing.yaml", "No such file"),
        (tmp_path / "binary.yaml", "not UTF-8"),
        (tmp_path / "empty", "no .yaml"),
    ):
        with pytest.raises(DefinitionFileError, match=sentence):
            read_definitions([path])
