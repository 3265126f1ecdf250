"""The fuzzed functions: parsers of untrusted input, with the errors that they document.

A target takes bytes. It returns if they are accepted or refused as documented. Any other exception
is a finding, and so is a target that takes longer than its limit.
"""

import asyncio
import contextlib
import json
import math
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import UTC
from pathlib import Path
from typing import Final, NamedTuple

import click
import httpx
import msgspec
from dramatiq.errors import DecodeError
from httpx_sse import ServerSentEvent, SSEError

from harness.http.token_issuer import SECRET
from tailrace.commands.json_input import JsonInput
from tailrace.definition_files import read_definition
from tailrace.errors import DefinitionFileError, TraceError
from tailrace.stream import event_of
from tailrace.transport import refusal
from tailrace.wfcommons import encode, import_trace
from tailrace_api.auth.errors import UnauthorizedError
from tailrace_api.auth.tickets.tickets import Stream, Tickets
from tailrace_api.auth.tokens.keys import FixedKey
from tailrace_api.auth.tokens.verifier import Verifier
from tailrace_api.web.json_body import decode
from tailrace_api.web.problems import RefusedError
from tailrace_shared.duration import Duration
from tailrace_shared.errors import ExpressionError, InvalidExpressionError
from tailrace_shared.json_pointer import split_pointer
from tailrace_shared.position import StreamPosition
from tailrace_shared.recurrence import Every, parse_recurrence
from tailrace_shared.stores.dead_letters import DeadLetter
from tailrace_shared.workflow.definition import encode_definition
from tailrace_shared.workflow.expressions.expression import compile_expression
from tailrace_shared.workflow.expressions.template import InvalidTemplateError, compile_template
from tailrace_shared.workflow.schemas.formats import FORMATS
from tailrace_shared.workflow.schemas.input_schema import (
    check_value,
    compile_schema,
    schema_problems,
)
from tailrace_shared.workflow.validation import validate
from tailrace_worker.broker.encoder import MsgspecEncoder
from tailrace_worker.engine.fairness.job_gate import _job_of

CORPUS: Final = Path(__file__).parent / "corpus"
_CONTEXT: Final = {
    "input": {"n": 3, "xs": [1, 2, 3], "s": "Müller", "m": {"a": [True, None, 1.5]}},
    "nodes": {"a": {"output": {"t": 1}, "status": "success", "error": None}},
    "execution": {"id": "e", "workflow": "w", "started_at": "2024-01-01T00:00:00Z"},
}
_VALUES: Final = (None, True, 1, 1.5, "abc", [1, "a", {}], {"a": 1, "foo": {"a": [1]}})


class Target(NamedTuple):
    """Something that is fuzzed.

    Attributes:
        run: tries one input.
        seconds: the longest CPU time of an input.
    """

    run: Callable[[bytes], object]
    seconds: float = 1.0


def problem_of(target: Target, data: bytes) -> str | None:
    """Try an input; return what is wrong, or None."""
    began = time.thread_time()
    try:
        target.run(data)
    except (KeyboardInterrupt, SystemExit):
        raise
    # What is not documented is a finding, of any class.
    except BaseException as error:  # noqa: BLE001
        return f"{type(error).__name__}: {error}"[:500]
    took = time.thread_time() - began
    return f"took {took:.1f} s" if took > target.seconds else None


def _body(data: bytes) -> None:
    with contextlib.suppress(RefusedError):
        document = decode(data)
        msgspec.json.encode(document.value)


def _definition(data: bytes) -> None:
    with contextlib.suppress(RefusedError):
        document = decode(data).value
        validated = validate(document, workflow_id="w")
        # Both end in a response.
        msgspec.json.encode(validated.problems)
        if validated.definition is not None:
            encode_definition(validated.definition)


def _expression(data: bytes) -> None:
    text = data.decode(errors="replace")
    try:
        expression = compile_expression(text)
        msgspec.json.encode(expression.evaluate(_CONTEXT))
    except (InvalidExpressionError, ExpressionError) as error:
        str(error).encode()


def _template(data: bytes) -> None:
    with contextlib.suppress(InvalidTemplateError, ExpressionError):
        template = compile_template({"a": [data.decode(errors="replace")]})
        msgspec.json.encode(template.render(_CONTEXT))


def _schema(data: bytes) -> None:
    with contextlib.suppress(RefusedError):
        schema = decode(data).value
        if problems := schema_problems(schema):
            msgspec.json.encode(problems)
        elif isinstance(schema, dict):
            validator = compile_schema(schema)
            for value in _VALUES:
                msgspec.json.encode(check_value(validator, "input", value, 10_000, 0.2))


def _format(data: bytes) -> None:
    text = data.decode(errors="replace")
    for accepts in FORMATS.values():
        accepts(text)


def _yaml(data: bytes) -> None:
    _file(data, "fuzz.yaml")


def _json_file(data: bytes) -> None:
    _file(data, "fuzz.json")


def _file(data: bytes, name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(data)
        with contextlib.suppress(DefinitionFileError):
            msgspec.json.encode(read_definition(path))


def _option(data: bytes) -> None:
    text = data.decode(errors="surrogateescape")
    if not text.startswith("@"):
        with contextlib.suppress(click.BadParameter):
            JsonInput().convert(text, None, None)


def _cron(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        recurrence = parse_recurrence(data.decode(errors="replace"))
        if not isinstance(recurrence, Every):
            recurrence.next(1_700_000_000.0, UTC)


def _duration(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        duration = Duration.parse(data.decode(errors="replace"))
        assert math.isfinite(duration)
        assert duration >= 0


def _position(data: bytes) -> None:
    text = data.decode("latin-1")
    if (position := StreamPosition.parse(text)) is not None:
        assert str(position) == text


def _pointer(data: bytes) -> None:
    split_pointer(data.decode(errors="replace"))


_VERIFIER: Final = Verifier("HS256", FixedKey("HS256", SECRET.encode()))
_TICKETS: Final = Tickets(b"k" * 32, 60)


def _token(data: bytes) -> None:
    with contextlib.suppress(UnauthorizedError):
        asyncio.run(_VERIFIER.principal(data.decode("latin-1")))


def _ticket(data: bytes) -> None:
    with contextlib.suppress(UnauthorizedError):
        _TICKETS.principal(data.decode("latin-1"), Stream.of("/a", "b=c"))


def _query(data: bytes) -> None:
    Stream.of("/a", data.decode("latin-1"))


def _message(data: bytes) -> None:
    with contextlib.suppress(DecodeError):
        MsgspecEncoder().decode(data)


def _letter(data: bytes) -> None:
    letter = DeadLetter(
        sequence=1,
        queue="q",
        reason="r",
        error="e",
        traceback="",
        deliveries=1,
        died_at=0.0,
        subject="s",
        firing="",
        headers={},
        body=data,
    )
    msgspec.json.encode([letter.message, letter.message_id])


def _job(data: bytes) -> None:
    _job_of(data)


def _answer(data: bytes) -> None:
    request = httpx.Request("GET", "http://localhost")
    str(refusal(httpx.Response(502, content=data, request=request))).encode(errors="replace")


def _event(data: bytes) -> None:
    with contextlib.suppress(SSEError):
        event_of(ServerSentEvent(event="e", data=data.decode(errors="replace"), id="", retry=None))


def _trace(data: bytes) -> None:
    with contextlib.suppress(TraceError):
        encode(import_trace(data, "trace"))


TARGETS: Final[Mapping[str, Target]] = {
    "body": Target(_body),
    "definition": Target(_definition, 6.0),
    "expression": Target(_expression, 2.0),
    "template": Target(_template, 2.0),
    # A schema may take its limit of CPU time, and then once more for each value.
    "schema": Target(_schema, 10.0),
    "format": Target(_format),
    "yaml": Target(_yaml, 3.0),
    "json_file": Target(_json_file, 3.0),
    "option": Target(_option),
    "cron": Target(_cron, 2.0),
    "duration": Target(_duration),
    "position": Target(_position),
    "pointer": Target(_pointer),
    "token": Target(_token),
    "ticket": Target(_ticket),
    "query": Target(_query),
    "message": Target(_message),
    "letter": Target(_letter),
    "job": Target(_job),
    "answer": Target(_answer),
    "event": Target(_event),
    "trace": Target(_trace, 3.0),
}


def seeds_of(name: str) -> list[bytes]:
    """Return the inputs that are kept for a target: a JSON string of bytes on each line."""
    lines = (CORPUS / f"{name}.txt").read_text("ascii").splitlines()
    return [json.loads(line).encode("latin-1") for line in lines]


def keep(name: str, data: bytes) -> None:
    """Add an input that was a finding to the seeds of its target."""
    if data in seeds_of(name):
        return
    with (CORPUS / f"{name}.txt").open("a", encoding="ascii") as file:
        file.write(json.dumps(data.decode("latin-1")) + "\n")
