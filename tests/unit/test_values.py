"""At every entry point a JSON value comes back equal, or is refused with its place.

An entry point is where a value comes from a user: a body, a file, a function, a message. Each has
an adapter that offers it a value and returns what the product made of it.
"""

import asyncio
import json
import math
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import click
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings

from harness.generators.json_values import VALUES, WRITABLE, is_equal, write, wrong_places
from harness.http.scripted_server import ScriptedServer
from tailrace.client import Client
from tailrace.commands.json_input import JsonInput
from tailrace.definition_files import read_definition
from tailrace.errors import DefinitionFileError
from tailrace_api.web.json_body import decode
from tailrace_api.web.problems import RefusedError
from tailrace_shared.execution.commits import decode_commit, encode_commits
from tailrace_shared.execution.events import MAX_VALUE_BYTES, StepCompleted, StepDone
from tailrace_shared.execution.state import ExecutionState, StepState
from tailrace_shared.workflow.definition import Node
from tailrace_worker.broker.encoder import MsgspecEncoder
from tailrace_worker.engine.decide.outcomes import Erred, Outcome, Succeeded
from tailrace_worker.engine.decide.plan import PlannedNode
from tailrace_worker.engine.run.attempt import Attempt
from tailrace_worker.engine.run.runner import Runner
from tailrace_worker.nodes.node import NodeFailedError, declared_node, node
from tailrace_worker.nodes.registry import NodeRegistry
from tailrace_worker.nodes.waits import ForChild
from tailrace_worker.secrets.secret_store import SecretStore

EXAMPLES = settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
TIME = "2024-01-01T00:00:00.000Z"
_LINE = re.compile(r":\d+:\d+|line \d+, column \d+")


class Entry(NamedTuple):
    """An entry point.

    Attributes:
        offer: returns what it makes of a value; raises ``Refused``.
        prefix: where the value is in the document of the error's JSON Pointers.
        levels: how deep values may be nested.
        wide_integers: whether integers beyond 64 bits are accepted.
        path_characters: how long the keys on the path to a value may be together.
    """

    offer: Callable[[Any], Any]
    prefix: str = ""
    levels: int = 100
    wide_integers: bool = False
    path_characters: int | None = None


class Refused(Exception):  # noqa: N818 - an answer
    """The value was refused, with this message."""


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop on which nodes run."""
    opened = asyncio.new_event_loop()
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def server() -> Iterator[ScriptedServer]:
    """A server for the client."""
    scripted = ScriptedServer()
    yield scripted
    scripted.close()


class Engine:
    """Runs node functions without NATS."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._threads = ThreadPoolExecutor(1)

    def run(self, function: Callable[..., Any], *, instant: bool = False, given: Any = None) -> Any:
        """Return the outcome of a node that runs a function."""
        found = declared_node(node("under.test", instant=instant)(function))
        assert found is not None
        runner = Runner(NodeRegistry([found]), self._threads, MAX_VALUE_BYTES, SecretStore())
        parameters = {"given": "${input.x}"} if given is not None else {}
        planned = PlannedNode("n", Node("under.test", parameters=parameters), is_actor=False)
        attempt = Attempt("t", "e", StepState("n", attempt=1), self._loop, lambda: None)
        state = ExecutionState(input={"x": given[0]} if given is not None else None)
        if instant:
            return runner.run_instant(planned, state, attempt)
        return self._loop.run_until_complete(runner.run(planned, state, attempt))


def taken(outcome: Outcome) -> Any:
    """Return the output of a step as its log and its readers have it."""
    if isinstance(outcome, Erred):
        assert not outcome.retryable
        raise Refused(outcome.message)
    assert isinstance(outcome, Succeeded)
    done = StepDone("n", "t", "success", 1, TIME, TIME, 1, outcome.output)
    event = StepCompleted(done, TIME)
    (commit,) = encode_commits([event])
    (stored,) = decode_commit(commit)
    assert isinstance(stored, StepCompleted)
    return stored.data.output


def output(engine: Engine, *, instant: bool) -> Entry:
    """Return an output, as the entry point."""
    return Entry(lambda value: taken(engine.run(lambda: value, instant=instant)))


def parameter(engine: Engine) -> Entry:
    """Return a parameter from an expression, as the entry point."""
    return Entry(
        lambda value: taken(engine.run(lambda given: given, given=[value])), "/given", levels=99
    )


def child_input(engine: Engine) -> Entry:
    """Return the entry point of the input of a child run."""

    def offer(value: Any) -> Any:
        outcome = engine.run(lambda: ForChild("child", value))
        if isinstance(outcome, Erred):
            raise Refused(outcome.message)
        assert isinstance(outcome, ForChild)
        return msgspec.json.decode(msgspec.json.encode(outcome.input))

    return Entry(offer)


def report(loop: asyncio.AbstractEventLoop, kind: str) -> Entry:
    """Return the entry point of a field of progress or of a log line."""

    def offer(value: Any) -> Any:
        attempt = Attempt("t", "e", StepState("n", attempt=1), loop, lambda: None)
        try:
            if kind == "log":
                attempt.log("line", field=value)
            else:
                attempt.progress(1, field=value)
        except NodeFailedError as error:
            raise Refused(str(error)) from None
        loop.run_until_complete(asyncio.sleep(0))
        (commit,) = encode_commits(attempt.take_reports())
        attempt.close()
        (event,) = decode_commit(commit)
        return event.data.fields["field"]  # type: ignore[union-attr]

    return Entry(offer, prefix="/field", levels=99)


def message(_value: Any) -> Entry:
    """Return the entry point of an argument of a Dramatiq message."""

    def offer(value: Any) -> Any:
        encoder = MsgspecEncoder()
        try:
            return encoder.decode(encoder.encode({"args": [value]}))["args"][0]
        except ValueError as error:
            raise Refused(str(error)) from None

    return Entry(offer, prefix="/args/0", levels=10_000, wide_integers=True)


def client(server: ScriptedServer, *, call: str) -> Entry:
    """Return the entry point of a value given to the Python client."""
    answer = b'{"execution_id": "e", "matched": 1}'
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer)
    server.respond = lambda *_: head + answer

    def offer(value: Any) -> Any:
        try:
            with Client(server.url) as opened:
                if call == "run":
                    opened.run("flow", [value])
                elif call == "resume":
                    opened.resume("e", data=[value])
                else:
                    opened.schedule("flow", "@hourly", [value])
        except ValueError as error:
            raise Refused(str(error)) from None
        sent = json.loads(server.requests[-1][2])
        return (sent["data"] if call == "resume" else sent["input"])[0]

    return Entry(
        offer,
        prefix="/data/0" if call == "resume" else "/input/0",
        levels=198,
        wide_integers=True,
    )


def body() -> Entry:
    """Return the entry point of a field of a request's body."""

    def offer(value: Any) -> Any:
        try:
            document = decode(f'{{"input": {write(value)}}}'.encode())
        except RefusedError as error:
            raise Refused(" ".join(f"at {each.pointer} " for each in error.errors)) from None
        if document.duplicates:
            raise Refused(" ".join(f"at {each.pointer}" for each in document.duplicates))
        return document.value["input"]

    return Entry(offer, prefix="/input", levels=99, path_characters=2043)


def option(folder: Path, *, is_file: bool) -> Entry:
    """Return the entry point of ``--input`` of the command."""

    def offer(value: Any) -> Any:
        text = f"[{write(value)}]"
        if is_file:
            (folder / "input.json").write_text(text)
            text = f"@{folder / 'input.json'}"
        try:
            return JsonInput().convert(text, None, None)[0]
        except click.BadParameter as error:
            raise Refused(str(error)) from None

    return Entry(offer, prefix="/0", levels=199, wide_integers=True)


def definition(folder: Path, ending: str) -> Entry:
    """Return the entry point of a definition file."""

    def offer(value: Any) -> Any:
        path = folder / f"flow{ending}"
        path.write_text(f'{{"id": "a", "v": {write(value) if ending == ".json" else flow(value)}}}')
        try:
            return read_definition(path)["v"]
        except DefinitionFileError as error:
            raise Refused(str(error)) from None

    return Entry(offer, prefix="/v", levels=199, wide_integers=True)


def flow(value: Any) -> str:
    """Write a value in the flow style of YAML.

    That is JSON, but for characters above U+FFFF and numbers that are not finite.
    """
    text = write(value, _yaml_scalar)
    pairs = re.compile(r"(?<!\\)((?:\\\\)*)\\u(d[89ab]..)\\u(d[c-f]..)")
    return pairs.sub(lambda pair: pair[1] + json.loads(f'"\\u{pair[2]}\\u{pair[3]}"'), text)


def _yaml_scalar(value: Any) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value}".replace("inf", ".inf").replace("nan", ".nan")
    return json.dumps(value)


def check(entry: Entry, value: Any) -> None:
    """Offer a value; fail if it is changed, refused without reason, or refused without place."""
    wrong = wrong_places(
        value,
        levels=entry.levels,
        wide_integers=entry.wide_integers,
        path_characters=entry.path_characters,
    )
    try:
        got = entry.offer(value)
    except Refused as refusal:
        said = str(refusal)
        assert wrong, said
        places = [f"at {entry.prefix}{pointer}"[:400] for pointer in wrong]
        is_whole = not entry.prefix and "" in wrong
        assert is_whole or _LINE.search(said) or any(map(said.__contains__, places)), said
    else:
        assert not wrong, wrong
        assert is_equal(value, got)


@EXAMPLES
@given(VALUES)
@pytest.mark.parametrize(
    "name",
    [
        *("output", "instant output", "parameter", "child input", "progress", "log"),
        *("message", "client run", "client resume", "client schedule"),
    ],
)
def test_a_value_of_python_comes_back_equal_or_is_refused_with_its_place(
    loop: asyncio.AbstractEventLoop, server: ScriptedServer, name: str, value: Any
):
    engine = Engine(loop)
    entries: dict[str, Callable[[], Entry]] = {
        "output": lambda: output(engine, instant=False),
        "instant output": lambda: output(engine, instant=True),
        "parameter": lambda: parameter(engine),
        "child input": lambda: child_input(engine),
        "progress": lambda: report(loop, "progress"),
        "log": lambda: report(loop, "log"),
        "message": lambda: message(value),
        "client run": lambda: client(server, call="run"),
        "client resume": lambda: client(server, call="resume"),
        "client schedule": lambda: client(server, call="schedule"),
    }
    check(entries[name](), value)


@EXAMPLES
@given(WRITABLE)
@pytest.mark.parametrize("name", ["body", "--input", "--input @file", ".json", ".yaml"])
def test_a_written_value_comes_back_equal_or_is_refused_with_its_place(
    tmp_path: Path, name: str, value: Any
):
    entries: dict[str, Callable[[], Entry]] = {
        "body": body,
        "--input": lambda: option(tmp_path, is_file=False),
        "--input @file": lambda: option(tmp_path, is_file=True),
        ".json": lambda: definition(tmp_path, ".json"),
        ".yaml": lambda: definition(tmp_path, ".yaml"),
    }
    check(entries[name](), value)
