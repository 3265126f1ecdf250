"""Attacks of one tenant: small requests that would keep a process busy, or fill it."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Final

import httpx

Attack = Callable[[httpx.AsyncClient], Coroutine[Any, Any, None]]

_VALUE: Final = {"type": "transform", "with": {"value": 1}}


async def _store(http: httpx.AsyncClient, workflow: str, **fields: Any) -> httpx.Response:
    return await http.put(f"/api/v1/workflows/{workflow}", json=fields)


async def _start(http: httpx.AsyncClient, workflow: str, run_input: Any = None) -> httpx.Response:
    return await http.post(f"/api/v1/workflows/{workflow}/runs", json={"input": run_input})


async def _run_times(
    http: httpx.AsyncClient, workflow: str, times: int, run_input: Any = None
) -> None:
    await asyncio.gather(*(_start(http, workflow, run_input) for _ in range(times)))


def _transforms(expression: str, nodes: int = 1) -> dict[str, Any]:
    work = {"type": "transform", "with": {"value": f"${{{expression}}}"}}
    return {f"n{i}": work for i in range(nodes)}


async def copies_in_a_loop(http: httpx.AsyncClient) -> None:
    """Build two hundred megabytes from a hundred kilobytes."""
    await _store(http, "copies", nodes=_transforms("input.xs.map(x, input.s + input.s)", 20))
    await _run_times(http, "copies", 10, {"xs": list(range(1900)), "s": "a" * 50_000})


async def nested_loops(http: httpx.AsyncClient) -> None:
    """Compare each of two thousand elements with each other, in many runs at once."""
    source = "input.xs.all(x, input.xs.exists(y, y == x + 5000))"
    await _store(http, "nested", nodes=_transforms(source, 20))
    await _run_times(http, "nested", 10, {"xs": list(range(2000))})


async def patterns(http: httpx.AsyncClient) -> None:
    """Match a large pattern on every element."""
    await _store(http, "patterns", nodes=_transforms("input.xs.all(x, x.matches(input.p))", 20))
    run_input = {"xs": ["a" * 100] * 1000, "p": "(?:.?){300}a{300}b"}
    await _run_times(http, "patterns", 10, run_input)


async def weaving_functions(http: httpx.AsyncClient) -> None:
    """Let a function return the product of two lengths."""
    await _store(http, "weave", nodes=_transforms("input.s.replace('a', input.s)", 20))
    await _run_times(http, "weave", 10, {"s": "a" * 100_000})


async def conditions(http: httpx.AsyncClient) -> None:
    """Evaluate an expensive condition for each of five hundred nodes, in one turn."""
    node = {**_VALUE, "when": "input.xs.filter(x, x > 3).size() > 5"}
    await _store(http, "conditions", nodes={f"n{i}": node for i in range(500)})
    await _run_times(http, "conditions", 5, {"xs": list(range(1000))})


async def many_references(http: httpx.AsyncClient) -> None:
    """Name one large value ten thousand times."""
    work = {"type": "transform", "with": {"value": ["${input.s}"] * 10_000}}
    await _store(http, "references", nodes={"a": work})
    await _run_times(http, "references", 5, {"s": "a" * 100_000})


async def filters(http: httpx.AsyncClient) -> None:
    """Have one trigger meet an expensive filter of each of sixty waits."""
    wait = {"type": "await", "with": {"triggers": ["hit"], "match": "event.xs.all(x, x >= 0)"}}
    await _store(http, "waits", nodes={f"n{i}": wait for i in range(20)})
    await _run_times(http, "waits", 3)
    await asyncio.gather(
        *(http.post("/api/v1/triggers/hit", json={"xs": list(range(900))}) for _ in range(10))
    )


async def trees(http: httpx.AsyncClient) -> None:
    """Let a map run its own workflow, and cancel the root."""
    work = {"type": "workflow", "with": {"id": "tree", "input": 1}}
    tree = {"for_each": str(list(range(20))), "max_parallel": 20, "do": work}
    await _store(http, "tree", nodes={"m": {"type": "map", "with": tree}})
    root = (await _start(http, "tree", 1)).json()["execution_id"]
    await asyncio.sleep(3)
    await http.post(f"/api/v1/executions/{root}/cancel", json={})


async def long_definitions(http: httpx.AsyncClient) -> None:
    """Have a hundred expressions of four kilobytes compiled."""
    nodes = _transforms("[" + "1," * 2000 + "]", 100)
    answers = await asyncio.gather(
        *(http.post("/api/v1/workflows/validate", json={"nodes": nodes}) for _ in range(4))
    )
    assert all(answer.status_code in {200, 422, 429, 503} for answer in answers)


async def references_in_schemas(http: httpx.AsyncClient) -> None:
    """Double the work of a check thirty times."""
    twice = {
        f"a{i}": {"allOf": [{"$ref": f"#/$defs/a{i + 1}"}, {"$ref": f"#/$defs/a{i + 1}"}]}
        for i in range(30)
    }
    schema = {"$defs": {**twice, "a30": {"type": "integer"}}, "$ref": "#/$defs/a0"}
    await _store(http, "doubling", input=schema, nodes={"a": _VALUE})
    await _run_times(http, "doubling", 4, 5)


async def patterns_in_schemas(http: httpx.AsyncClient) -> None:
    """Match a large pattern on every element of an input."""
    schema = {"type": "array", "items": {"pattern": "(?:.?){300}a{300}b"}}
    await _store(http, "schema", input=schema, nodes={"a": _VALUE})
    await _run_times(http, "schema", 8, ["a" * 1500] * 40)


async def empty_objects(http: httpx.AsyncClient) -> None:
    """Send a megabyte of empty objects, several times."""
    body = b"[" + b"{}," * 340_000 + b"{}]"
    await asyncio.gather(
        *(http.post("/api/v1/workflows/validate", content=body, headers=_JSON) for _ in range(6))
    )


async def many_waits(http: httpx.AsyncClient) -> None:
    """Resolve two hundred waits of one run by one trigger."""
    wait = {"type": "await", "with": {"triggers": ["all"]}}
    await _store(http, "many", nodes={f"n{i}": wait for i in range(200)})
    await _start(http, "many")
    await asyncio.sleep(1)
    await http.post("/api/v1/triggers/all", json={})


async def many_starts(http: httpx.AsyncClient) -> None:
    """Start three hundred runs at once."""
    await _store(http, "one", nodes={"a": _VALUE})
    await _run_times(http, "one", 300)


async def bad_paths(http: httpx.AsyncClient) -> None:
    """Ask for long and strange ids."""
    paths = ["a" * 4000, "%00", "..%2f..%2f", "%F0%9F%98%80" * 100]
    await asyncio.gather(
        *(http.get(f"/api/v1/executions/{path}") for path in paths for _ in range(20))
    )


_JSON: Final = {"content-type": "application/json"}

ATTACKS: Final[tuple[Attack, ...]] = (
    *(copies_in_a_loop, nested_loops, patterns, weaving_functions, conditions, many_references),
    *(filters, trees, long_definitions, references_in_schemas, patterns_in_schemas),
    *(empty_objects, many_waits, many_starts, bad_paths),
)


async def _serve(url: str) -> None:
    """Make the attacks whose names come on standard input, and report the end of each."""
    attacks = {attack.__name__: attack for attack in ATTACKS}
    headers = {"x-organization-id": "hostile"}
    async with httpx.AsyncClient(base_url=url, timeout=60, headers=headers) as http:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        for line in sys.stdin:
            await attacks[line.strip()](http)
            sys.stdout.write("done\n")
            sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1]))
