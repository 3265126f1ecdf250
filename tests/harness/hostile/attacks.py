"""Attacks of one tenant on the others: on loops, memory, connections, queues and logs.

Each is bounded: what goes beyond a limit is refused, and says which limit that is.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, NamedTuple

from harness.hostile.attacker import Attacker, numbers

MIB: Final = 1024 * 1024
_BODY: Final = "/api/v1/workflows/validate"
_TEXTS: Final = ["a" * 50] * 1900
_STREAM: Final = "/api/v1/sse/stream?topics="
_ONE: Final = {"a": {"type": "transform", "with": {"value": 1}}}
_WAIT: Final = {"type": "await", "with": {"reason": "approval"}}


class Attack(NamedTuple):
    """An attack.

    Attributes:
        act: carries it out.
        bound: a pattern in what it is refused with, or in the log of the API or worker.
    """

    act: Callable[[Attacker], Awaitable[None]]
    bound: str


async def _filters(attacker: Attacker) -> None:
    """Let one trigger evaluate an expensive filter for each of many waiting runs."""
    await attacker.put(
        "w",
        {
            "a": {
                "type": "await",
                "with": {"triggers": ["t.x"], "match": "input.xs.exists(x, x.matches(event.p))"},
            }
        },
    )
    runs = await attacker.start_many("w", 60, {"xs": _TEXTS})
    await attacker.reach(runs[-1], "paused")
    attacker.begin()
    await asyncio.gather(
        *(
            attacker.ask("POST", "/api/v1/triggers/t.x", {"p": f"(a|b{number})*c"})
            for number in range(6)
        )
    )
    # Runs that wait are no load, but the trigger is delivered until they have ended.
    await asyncio.gather(
        *(attacker.ask("POST", f"/api/v1/executions/{run}/cancel", {}) for run in runs)
    )


async def _expressions(attacker: Attacker) -> None:
    """Evaluate expressions that match patterns, copy texts, or name a text very often."""
    expressions: dict[str, Any] = {
        "patterns": "${input.xs.exists(x, x.matches(input.p))}",
        "copies": "${input.xs.map(x, input.s + input.s)}",
        "loops": "${input.xs.map(x, input.xs.filter(y, y == x))}",
        "products": "${input.s.replace('s', input.s)}",
        "references": ["${input.s}"] * 10_000,
    }
    for name, value in expressions.items():
        await attacker.put(name, {"a": {"type": "transform", "with": {"value": value}}})
    condition = {**_ONE["a"], "when": "input.xs.filter(x, x > 'b').size() > 5"}
    await attacker.put("conditions", {f"n{number}": condition for number in range(100)})
    names = [*expressions, "conditions"]
    run_input = {"xs": _TEXTS, "p": "(a|aa)*b" * 200, "s": "s" * 50_000}
    turn = numbers()

    async def act() -> None:
        if run := await attacker.start(names[next(turn) % len(names)], run_input):
            await attacker.ended(run)

    await attacker.repeat(act, 6)


@contextlib.asynccontextmanager
async def _server(head: bytes, parts: Callable[[], AsyncIterator[bytes]]) -> AsyncIterator[str]:
    """Serve every request with a head and parts of a body; yield the URL."""
    ends = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(head)
            async for part in parts():
                writer.write(part)
                await writer.drain()
                if ends.is_set():
                    break
            await ends.wait()
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    finally:
        ends.set()
        server.close()


async def _charset(attacker: Attacker) -> None:
    """Let the worker decode responses in a character set that takes quadratic time."""
    body = ("é" * 90_000).encode() + b"-" + b"a" * 10_000
    head = (
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset=punycode\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    ).encode()

    async def parts() -> AsyncIterator[bytes]:
        yield body

    async with _server(head, parts) as url:
        await attacker.put("w", {"a": {"type": "http", "with": {"url": url}}})
        runs = await attacker.start_many("w", 6)
        for run in runs:
            await attacker.ended(run)
        if not attacker.refusals:
            attacker.refused("all have completed")


async def _drip(attacker: Attacker) -> None:
    """Hold the worker's connections by responses that arrive byte by byte."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 10000\r\n\r\n"

    async def parts() -> AsyncIterator[bytes]:
        while True:
            yield b"x"
            await asyncio.sleep(0.2)

    async with _server(head, parts) as url:
        await attacker.put("w", {"a": {"type": "http", "with": {"url": url}}})
        runs = await attacker.start_many("w", 40)
        await attacker.ended(runs[0])
        await asyncio.gather(
            *(attacker.ask("POST", f"/api/v1/executions/{run}/cancel", {}) for run in runs[1:])
        )


async def _tree(attacker: Attacker) -> None:
    """Let a map over its own workflow grow without an end, and cancel it."""
    child = {"type": "workflow", "with": {"id": "w", "input": {}}}
    each = {"for_each": "[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20]", "do": child}
    await attacker.put("w", {"a": {"type": "map", "with": {**each, "max_parallel": 20}}})
    run = await attacker.start("w")
    attacker.begin()
    while not (attacker.refusals and attacker.is_due()):
        await attacker.document(run)
        listed = await attacker.ask("GET", "/api/v1/executions?status=failed&limit=5")
        for failed in listed.json()["runs"]:
            await attacker.document(failed["execution_id"])
        await asyncio.sleep(0.3)
    await attacker.ask("POST", f"/api/v1/executions/{run}/cancel", {})
    await attacker.ended(run)


async def _outputs(attacker: Attacker) -> None:
    """Hold large outputs in the memory of the worker."""
    do = {"type": "hostile.output", "with": {"size": 7 * MIB}}
    each = {"for_each": "[1,2,3,4,5,6,7,8,9,10]", "do": do, "max_parallel": 10}
    await attacker.put("w", {"a": {"type": "map", "with": each}})
    while not attacker.refusals:
        # A quick worker may store some outputs before it has the others.
        for run in await attacker.start_many("w", 3):
            await attacker.ended(run)


async def _unfinished(attacker: Attacker) -> None:
    """Send bodies without their last byte."""
    head = attacker.head("POST", _BODY, f"content-length: {MIB}")
    await asyncio.gather(*(attacker.send(head + b" " * (MIB - 1)) for _ in range(60)))


async def _objects(attacker: Attacker) -> None:
    """Validate bodies of a great many objects."""
    body = b"[" + b"{}," * (MIB // 3 - 2) + b"{}]"
    options = {"content": body, "headers": {"content-type": "application/json"}}
    await attacker.repeat(lambda: attacker.ask("POST", _BODY, **options), 24)


async def _raw(attacker: Attacker) -> None:
    """Send what is not HTTP, or too much of it."""
    requests = (
        attacker.head("GET", "/api/v1/executions", "host: another"),
        b"GET /api/v1/executions HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.0\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        attacker.head("GET", "/" + "x" * 100_000),
        attacker.head("GET", "/healthz", *(f"x-{n}: {'y' * 1000}" for n in range(80))),
        attacker.head("GET", "/healthz", *(f"x-{n}: y" for n in range(2000))),
        attacker.head("POST", _BODY, "transfer-encoding: chunked")
        + b"0\r\n"
        + b"authorization: x\r\n" * 5000,
        attacker.head("POST", _BODY, "transfer-encoding: chunked") + b"ffffffffffffffffff\r\n",
        b"\x16\x03\x01" + random.Random(7).randbytes(50_000),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    )
    turn = numbers()

    async def act() -> None:
        with contextlib.suppress(ConnectionError):
            await attacker.send(requests[next(turn) % len(requests)])

    await attacker.repeat(act, 10)


async def _unread(attacker: Attacker) -> None:
    """Open very many streams, and read nothing while their events are written."""
    await attacker.put("w", {"a": {"type": "hostile.report", "with": {"count": 500, "size": 900}}})
    head = attacker.head("GET", f"{_STREAM}feed,paused")
    await asyncio.gather(*(attacker.send(head, keep=True) for _ in range(350)))
    await asyncio.gather(*map(attacker.ended, await attacker.start_many("w", 4)))


async def _reconnects(attacker: Attacker) -> None:
    """Open and close streams of 32 different topics."""
    turn = numbers()

    async def act() -> None:
        # One more than allowed, sometimes.
        count = 33 if (number := next(turn)) % 10 == 9 else 32
        topics = ",".join(f"execution:e-{number}-{topic}" for topic in range(count))
        reader, writer = await asyncio.open_connection("127.0.0.1", attacker.port)
        writer.write(attacker.head("GET", _STREAM + topics))
        text = (await reader.read(1000)).decode()
        attacker.answers += 1
        if "HTTP/1.1 200" not in text or "stream:refused" in text:
            attacker.refused(text)
        writer.transport.abort()

    await attacker.repeat(act, 16)


async def _last_ids(attacker: Attacker) -> None:
    """Resume streams after ids that are huge, of another log or in the future."""
    await attacker.put("w", _ONE)
    run = await attacker.start("w")
    await attacker.ended(run)
    ids = (
        "9" * 30_000,
        "x" * 60_000,
        "0-0-0",
        "1-99999999999999-0",
        f"{'1' * 18}-1-9999",
        "-" * 99,
    )
    turn = numbers()
    paths = (f"/api/v1/sse/executions/{run}/stream", f"{_STREAM}feed,paused,execution:{run}")

    async def act() -> None:
        number = next(turn)
        head = attacker.head("GET", paths[number % 2], f"last-event-id: {ids[number % len(ids)]}")
        reader, writer = await asyncio.open_connection("127.0.0.1", attacker.port)
        with contextlib.suppress(ConnectionError):
            writer.write(head)
            text = (await reader.read(1000)).decode()
            attacker.answers += 1
            if "HTTP/1.1 200" not in text:
                attacker.refused(text)
        writer.transport.abort()

    await attacker.repeat(act, 16)


async def _lists(attacker: Attacker) -> None:
    """Read lists with filters that match little, and cursors of every kind."""
    await attacker.put("w", _ONE)
    await attacker.start_many("w", 100)
    paths = (
        "/api/v1/executions?limit=100",
        "/api/v1/executions?limit=100&status=cancelled",
        "/api/v1/executions?workflow_id=none&limit=100",
        f"/api/v1/executions?cursor={'A' * 1000}",
        "/api/v1/executions?limit=1000000",
        "/api/v1/waiting?limit=100&cursor=zzzz",
        "/api/v1/workflows?limit=100",
        "/api/v1/schedules?limit=100",
        "/api/workflow/paused",
    )
    turn = numbers()

    async def act() -> None:
        await attacker.ask("GET", paths[next(turn) % len(paths)])

    await attacker.repeat(act, 32)


async def _schedules(attacker: Attacker) -> None:
    """Store hundreds of schedules that start a run every second."""
    await attacker.put("w", {"a": _WAIT})
    ids = [f"s-{number}" for number in range(150)]
    await asyncio.gather(
        *(
            attacker.ask(
                "POST", "/api/v1/schedules", {"id": each, "workflow_id": "w", "cron": "* * * * * *"}
            )
            for each in ids
        )
    )
    await attacker.repeat(lambda: asyncio.sleep(0.1), 1)
    await asyncio.gather(*(attacker.ask("DELETE", f"/api/v1/schedules/{each}") for each in ids))
    await attacker.start_many("w", 120)


async def _depth(attacker: Attacker) -> None:
    """Send deeply nested bodies, repeated keys, huge numbers, and one byte too many."""
    bodies = (
        b"[" * (MIB - 1),
        b'{"a":' * (MIB // 5 - 1),
        b"[" * 500 + b"]" * 500,
        b"{" + b'"a":1,' * (MIB // 6 - 2) + b'"a":1}',
        b"[" + b"9" * (MIB - 10) + b"]",
        b"[" + b"1e400," * (MIB // 6 - 2) + b"1]",
        b'"' + b"\\ud800" * (MIB // 6 - 2) + b'"',
        b" " * (MIB + 1),
    )
    turn = numbers()

    async def act() -> None:
        content = bodies[next(turn) % len(bodies)]
        options = {"content": content, "headers": {"content-type": "application/json"}}
        await attacker.ask("POST", _BODY, **options)

    await attacker.repeat(act, 8)


async def _schemas(attacker: Attacker) -> None:
    """Validate inputs against schemas that take exponential time, and endless references."""
    schemas: dict[str, dict[str, Any]] = {
        "pattern": {"properties": {"t": {"pattern": "^(a|a)*$"}}},
        "loop": {"$ref": "#"},
        "tree": {
            "$defs": {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(30)}
            | {"d30": {"type": "object"}},
            "$ref": "#/$defs/d0",
        },
        "unique": {"properties": {"xs": {"uniqueItems": True}}},
        "repeats": {"properties": {"t": {"pattern": "^" + "(a{0,100}){0,100}" * 3 + "$"}}},
        "matches": {"properties": {"ts": {"items": {"pattern": "(?:.?){300}a{300}b"}}}},
    }
    for name, schema in schemas.items():
        await attacker.put(name, _ONE, input={"type": "object", **schema})
    run_input = {
        "t": "a" * 100_000 + "b",
        "xs": [{"n": n} for n in range(6000)],
        "ts": ["a" * 1500] * 40,
    }
    turn = numbers()

    async def act() -> None:
        await attacker.start([*schemas][next(turn) % len(schemas)], run_input)

    await attacker.repeat(act, 4)


async def _large(attacker: Attacker) -> None:
    """Store, draw and run definitions of ten thousand nodes."""
    nodes = {f"n{n}": {"type": "transform", "with": {"value": n}} for n in range(10_000)}
    await attacker.put("more", nodes, name="x" * MIB)
    turn = numbers()

    async def act() -> None:
        number = next(turn)
        name = f"w{number % 4}"
        await attacker.put(name, nodes, name=f"version {number}")
        await attacker.ask("GET", f"/api/v1/workflows/{name}/graph")
        await attacker.ask("POST", f"/api/v1/workflows/{name}/runs", {"input": {}})

    await attacker.repeat(act, 2)


async def _reports(attacker: Attacker) -> None:
    """Report progress and log lines as fast as a function can."""
    do = {"type": "hostile.report", "with": {"count": 2500, "size": 2000}}
    each = {"for_each": "[1,2,3,4]", "do": do, "max_parallel": 2}
    await attacker.put("w", {"a": {"type": "map", "with": each}})
    for run in await attacker.start_many("w", 2):
        await attacker.ended(run)
        text = (await attacker.ask("GET", f"/api/v1/executions/{run}?include_logs=true")).text
        lines = text.count("step:log")
        attacker.refused(f"log lines: {lines} of 10000")


async def _keys(attacker: Attacker) -> None:
    """Start as many runs as possible, each with an idempotency key of its own."""
    await attacker.put("w", {"a": _WAIT})
    turn = numbers()

    async def act() -> None:
        while True:
            key = {"idempotency-key": f"{next(turn)}-{'k' * 200}"}
            await attacker.ask("POST", "/api/v1/workflows/w/runs", {"input": {}}, headers=key)
            if attacker.refusals:
                return

    await attacker.repeat(act, 32)


async def _slow_heads(attacker: Attacker) -> None:
    """Send requests so slowly that they are never complete."""
    parts = [b"GET /healthz HTTP/1.1\r\nhost: x\r\n", *(b"x-%d: y\r\n" % n for n in range(8))]
    await asyncio.gather(*(attacker.send(*parts, pause=0.4) for _ in range(300)))


async def _tickets(attacker: Attacker) -> None:
    """Request tickets, also for streams with long queries."""
    bodies = ({"stream": f"{_STREAM}feed"}, {"stream": f"{_STREAM}{'feed,' * 800}"})
    wrong = {"stream": "/" + "x" * 100_000}
    turn = numbers()

    async def act() -> None:
        body = (*bodies, wrong)[next(turn) % 3]
        await attacker.ask("POST", "/api/v1/sse/tickets", body)

    await attacker.repeat(act, 32)


async def _triggers(attacker: Attacker) -> None:
    """Send triggers of very many procedures, with large data."""
    turn = numbers()

    async def act() -> None:
        while True:
            number = next(turn)
            data = {"x": "x" * (300_000 if number % 10 == 9 else 60_000)}
            await attacker.ask("POST", f"/api/v1/triggers/t.{number}.x", data)
            # On a slow machine the time may be over before one is too large.
            if attacker.refusals:
                return

    await attacker.repeat(act, 16)


async def _reruns(attacker: Attacker) -> None:
    """Run a run again, and again."""
    await attacker.put("w", _ONE)
    run = await attacker.start("w")
    await attacker.ended(run)

    async def act() -> None:
        while not attacker.refusals:
            await attacker.ask("POST", f"/api/v1/executions/{run}/rerun", {})

    await attacker.repeat(act, 16)


async def _forms(attacker: Attacker) -> None:
    """Submit large data to a step whose form is large."""
    properties = {f"p{n}": {"type": "string", "pattern": "^(a|b)*$"} for n in range(1000)}
    form = {"type": "object", "properties": properties}
    await attacker.put("w", {"a": {"type": "await", "with": {"form": form}}})
    run = await attacker.start("w")
    await attacker.reach(run, "paused")
    data = {f"p{n}": "c" * 60 for n in range(1000)}
    body = {"node_id": "a", "decision": "approved", "data": data}
    await attacker.repeat(lambda: attacker.ask("POST", f"/api/v1/executions/{run}/resume", body), 8)
    body["data"] = {"x": "c" * 2 * MIB}
    await attacker.ask("POST", f"/api/v1/executions/{run}/resume", body)
    await attacker.ask("POST", f"/api/v1/executions/{run}/cancel", {})


async def _definitions(attacker: Attacker) -> None:
    """Have a hundred expressions of four kilobytes compiled."""
    work = {"type": "transform", "with": {"value": "${[" + "1," * 2000 + "]}"}}
    nodes = {f"n{number}": work for number in range(50)}
    await asyncio.gather(*(attacker.ask("POST", _BODY, {"nodes": nodes}) for _ in range(2)))
    attacker.refused("all are valid")


async def _waits(attacker: Attacker) -> None:
    """Resolve two hundred waits of one run by one trigger."""
    wait = {"type": "await", "with": {"triggers": ["all"]}}
    await attacker.put("w", {f"n{number}": wait for number in range(200)})
    run = await attacker.start("w")
    await attacker.reach(run, "paused")
    await attacker.ask("POST", "/api/v1/triggers/all", {})
    await attacker.ended(run)
    attacker.refused("all are resolved")


async def _starts(attacker: Attacker) -> None:
    """Start four hundred runs in one moment."""
    await attacker.put("w", _ONE)
    await asyncio.gather(*(attacker.start("w") for _ in range(400)))


async def _paths(attacker: Attacker) -> None:
    """Request long and strange ids."""
    paths = ["a" * 4000, "%00", "..%2f..%2f", "%F0%9F%98%80" * 100]
    turn = numbers()

    async def act() -> None:
        await attacker.ask("GET", f"/api/v1/executions/{paths[next(turn) % len(paths)]}")

    await attacker.repeat(act, 20)


ATTACKS: Final[dict[str, Attack]] = {
    "filters": Attack(_filters, "TAILRACE_EXPRESSION_BUDGET"),
    "expressions": Attack(_expressions, "TAILRACE_EXPRESSION_BUDGET"),
    "charset": Attack(_charset, "all have completed|TAILRACE_HTTP_TIMEOUT"),
    "drip": Attack(_drip, "TAILRACE_HTTP_TIMEOUT"),
    "tree": Attack(_tree, "TAILRACE_MAX_RUN_DEPTH|TAILRACE_MAX_DESCENDANTS|TAILRACE_MAX_LIVE_RUNS"),
    "outputs": Attack(_outputs, "TAILRACE_MAX_TENANT_PENDING_OUTPUT_BYTES"),
    "unfinished": Attack(_unfinished, "TAILRACE_MAX_TENANT_PENDING_BODY_BYTES"),
    "objects": Attack(_objects, "TAILRACE_MAX_TENANT_PENDING_BODY_BYTES"),
    "raw": Attack(_raw, "TAILRACE_MAX_HEADER_BYTES"),
    "unread": Attack(_unread, "TAILRACE_MAX_TENANT_STREAMS"),
    "reconnects": Attack(_reconnects, "TAILRACE_MAX_STREAM_TOPICS"),
    "last ids": Attack(_last_ids, "TAILRACE_MAX_HEADER_BYTES"),
    "lists": Attack(_lists, "limit"),
    "schedules": Attack(_schedules, "TAILRACE_MAX_LIVE_RUNS"),
    "depth": Attack(_depth, "TAILRACE_MAX_BODY_BYTES"),
    "schemas": Attack(_schemas, "pattern"),
    "large": Attack(_large, "TAILRACE_MAX_BODY_BYTES"),
    "reports": Attack(_reports, "log lines: [1-4][0-9]* of"),
    "keys": Attack(_keys, "TAILRACE_MAX_RUNS_PER_MINUTE|TAILRACE_MAX_LIVE_RUNS"),
    "slow heads": Attack(_slow_heads, "TAILRACE_RECEIVE_TIMEOUT"),
    "tickets": Attack(_tickets, "at most"),
    "triggers": Attack(_triggers, "the trigger's data are"),
    "reruns": Attack(_reruns, "TAILRACE_MAX_RUNS_PER_MINUTE|TAILRACE_MAX_LIVE_RUNS"),
    "forms": Attack(_forms, "TAILRACE_MAX_BODY_BYTES"),
    "definitions": Attack(_definitions, "all are valid"),
    "waits": Attack(_waits, "all are resolved"),
    "starts": Attack(_starts, "TAILRACE_MAX_TENANT_WAITING_REQUESTS|TAILRACE_MAX_RUNS_PER_MINUTE"),
    "paths": Attack(_paths, "is not an id|no execution|characters"),
}
"""All attacks, in the order in which they are carried out."""
