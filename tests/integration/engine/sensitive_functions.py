"""Node functions that handle sensitive values; they check that they get the real values."""

from typing import Any

from tailrace_worker.nodes import NodeContext, NodeFailedError, node


@node("bank.lookup")
async def lookup(ctx: NodeContext, card: str, expected: str) -> dict[str, Any]:
    """Return what only the bank knows; report and log on the way."""
    if card != expected[::-1]:
        raise NodeFailedError(f"not the real card: {card}", retryable=False)
    ctx.progress(30, f"looking up {card}", card=card, steps=[{"of": card}])
    ctx.log(f"found {card}", "info", card=card, note=f"card {card} is good")
    return {"iban": "AT61-1904-3002", "owner": "ann", "rows": [{"pin": 77431}, {"pin": 99117}]}


@node("bank.echo")
def echo(ctx: NodeContext, value: Any) -> Any:
    """Return what it is given, in other words."""
    ctx.log(f"echo {value}")
    return {"copied": value, "within": f"<{value}>", "list": [value]}


@node("bank.fail")
async def fail(ctx: NodeContext, value: Any) -> None:
    """Fail with what it is given, first to be tried again."""
    raise NodeFailedError(f"attempt {ctx.attempt} with {value}")


@node("bank.large")
async def large(value: Any) -> Any:
    """Return more than an event carries."""
    return {"value": value, "filler": "x" * 300_000}


@node("bank.actor", actor=True)
def actor(ctx: NodeContext, value: Any) -> Any:
    """Do the same in an actor."""
    ctx.progress(50, f"has {value}", value=value)
    return {"own": "actors-own-secret", "copied": value}


@node("bank.kid")
async def kid(item: dict[str, Any]) -> dict[str, Any]:
    """Return something new of an item."""
    return {"ssn": f"ssn-{item['name']}-x", "code": f"code-{item['name']}-x", "open": item["name"]}
