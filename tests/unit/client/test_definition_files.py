"""Definition files are parsed strictly."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.definition_files import place_of, read_definition, read_definitions
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
    path = write(
        "a: [on, no, 12:30, 2026-01-01, 1_000, 0b1, 0X1F, -0x1, y]\n"
        "b: [true, null, ~, 3, -1.5, 1e3, FALSE, +7]\n"
        "c: [010, 08, 0x1F, 0o17, -010, 0.10, 1., .5, 100000000000000000000]\n"
        "d: [!!float 3, !!int '0x1F', !!str 010, !!bool 'True', !!null '']\n"
    )

    assert read_definition(path) == {
        "a": ["on", "no", "12:30", "2026-01-01", "1_000", "0b1", "0X1F", "-0x1", "y"],
        "b": [True, None, None, 3, -1.5, 1000.0, False, 7],
        "c": [10, 8, 31, 15, -10, 0.1, 1.0, 0.5, 10**20],
        "d": [3.0, 31, "010", True, None],
    }


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: .nan\n", ":1:4: .nan is not a number of JSON"),
        ("a: [1, -.inf]\n", ":1:8: -.inf is not a number of JSON"),
        ("a: !!float .Inf\n", ":1:4: .inf is not a number of JSON"),
        ("a: 1e999\n", ":1:4: 1e999 is not a number of JSON"),
        ("a: !!int abc\n", ":1:4: 'abc' is not of the type !!int"),
        ("a: !!float abc\n", "'abc' is not of the type !!float"),
        ("a: !!bool maybe\n", "'maybe' is not of the type !!bool"),
        ("a: !!null x\n", "'x' is not of the type !!null"),
        ("a: !!timestamp 2026-99-99\n", ":1:4: could not determine a constructor"),
        ("a: !!binary aGk=\n", "could not determine a constructor"),
        ("a: !!set {b}\n", "could not determine a constructor"),
        ("a: !!map b\n", "expected a mapping node"),
        ("a: !!seq b\n", "expected a sequence node"),
        ("a: !!str [b]\n", "expected a scalar node"),
        ("!!str [b]: a\n", "a key must be text"),
        ("[b]: a\n", "a key must be text"),
        ("a: {<<: 1}\n", "expected a mapping"),
        ("a: " + "9" * 5000, ":1:4: a number of 5000 characters"),
        ("a: 0x" + "f" * 5000, "a number of 5002 characters"),
        ('a: "\\ud800"\n', ":1:"),
        ("a: \x07\n", "control characters are not allowed"),
        ("a: 1\n---\nb: 1\n", "found another document"),
        ("a: *b\n", "found undefined alias"),
        ("a:\n\tb: 1\n", ":2:1: found character that cannot start any token: indent with spaces"),
        ("a: @b\n", "put text that begins with a special character in quotes"),
        ("a: " + "[" * 100_000, "nested more than 200 levels deep"),
        ("a: " + "{b: " * 100_000, "nested more than 200 levels deep"),
        ("- " * 100_000, "nested more than 200 levels deep"),
        ("? " * 100_000, "nested more than 200 levels deep"),
    ],
)
def test_yaml_that_is_no_definition_is_one_line(
    write: Callable[..., Path], text: str, sentence: str
) -> None:
    """Never a traceback, a crash of the parser, or a value that silently changes."""
    path = write(text)

    with pytest.raises(DefinitionFileError) as caught:
        read_definition(path)

    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_aliases_cannot_multiply_a_document(write: Callable[..., Path]) -> None:
    """Ten levels of ten aliases would be ten billion values."""
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]

    with pytest.raises(DefinitionFileError, match="too large with its aliases"):
        read_definition(write("\n".join(levels)))

    merged = ["a0: &a0 {x: 1}"]
    merged += [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}" for n in range(1, 10)]
    with pytest.raises(DefinitionFileError, match="too large with its aliases"):
        read_definition(write("\n".join(merged)))


@given(st.text(st.sampled_from("a1.-+0xo:,[]{}&*!<>|?\"'#%@~ \n\t\\ué"), max_size=40))
def test_any_text_is_a_definition_or_one_line(text: str) -> None:
    """Random YAML and JSON raise no other error."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("a.yaml", "a.json"):
            path = Path(folder, name)
            path.write_text(text)
            try:
                read_definition(path)
            except DefinitionFileError as error:
                assert "\n" not in str(error)  # noqa: PT017 - most texts are refused


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
        ("a: &a [*a]\n", ":1:8: the value of &a contains itself"),
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
        ('{"a": -1e999}', "the number -1e999 is too large"),
        ('{"a": "\\ud800"}', "half of a surrogate pair"),
        ('{"\\udfff": 1}', "half of a surrogate pair"),
        ('{"a": ' + "9" * 5000 + "}", "a number of 5000 digits"),
        ('{"a": ' + "[" * 100_000, "nested more than"),
        ('{"a": ' + "[" * 300 + "]" * 300 + "}", "nested more than 200 levels deep"),
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


def test_a_pointer_leads_to_a_line_and_a_column() -> None:
    """To a key, to an item, or to the nearest place that exists; also in JSON."""
    text = "id: w\nnodes:\n  a/b:\n    needs:\n    - x\n    - y\n"
    assert place_of(text, "") == (1, 1)
    assert place_of(text, "/nodes/a~1b") == (3, 3)
    assert place_of(text, "/nodes/a~1b/needs/1") == (6, 7)
    assert place_of(text, "/nodes/a~1b/needs/7") == (4, 5)
    assert place_of(text, "/nodes/c/type") == (2, 1)
    assert place_of('{"id": "w",\n "nodes": {}}', "/nodes") == (2, 2)
    assert place_of("", "/nodes") is None
