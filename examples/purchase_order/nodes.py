"""The node types of the purchase order workflow.

A node is a function: its parameters are the keys of ``with``, what it returns is the step's
output. Ordinary functions run in threads, ``async`` ones on the worker's event loop.
"""

import asyncio
import difflib
from decimal import Decimal
from typing import Any, Final

from tailrace_worker.nodes import NodeContext, NodeFailedError, node

from .order_csv import CENT, Item, Order, OrderError, parse_order

CATALOGUE: Final = {
    "NW-4410": "Desk Fjord, height-adjustable, 160x80 cm",
    "NW-2207": "Office chair Siesta, mesh back",
    "NW-9015": "Cable tray, steel, 120 cm",
    "NW-3300": "Monitor arm, dual",
    "AC-100": "Bolt, hex, M8 x 40 (box of 100)",
    "AC-220": "Work gloves Titan, size L",
    "AC-305": "Safety goggles, clear",
    "AC-410": "Cordless drill, 18 V, two batteries",
}
LOOK_UP_SECONDS: Final = 0.15
"""Simulated latency of the catalogue service per item, in seconds."""


@node("po.parse")
def parse(ctx: NodeContext, csv: str) -> dict[str, Any]:
    """Read a CSV purchase order into line items, each with a confidence from 0 to 1."""
    try:
        order = parse_order(
            csv, lambda done, lines: ctx.progress(100 * done / lines, f"line {done} of {lines}")
        )
    except OrderError as error:
        # The same text would fail the same way: no retry.
        raise NodeFailedError(str(error), retryable=False) from error
    ctx.log(f"{len(order.items)} lines, confidence {order.confidence}")
    return _order_json(order)


@node("po.check")
def check(order: dict[str, Any], po_number: str) -> dict[str, Any]:
    """List the problems that a buyer would report."""
    problems = [f"line {item['line']}: {note}" for item in order["items"] for note in item["notes"]]
    problems += [
        f"line {item['line']}: a quantity of {item['quantity']:g}"
        for item in order["items"]
        if item["quantity"] <= 0
    ]
    if po_number not in order["header"].values():
        problems.append(f"the document does not mention {po_number}")
    stated = order["stated_total"]
    if stated is not None and abs(Decimal(str(stated)) - Decimal(str(order["total"]))) > CENT:
        problems.append(f"the lines add up to {order['total']}, the document says {stated}")
    return {"problems": problems}


@node("po.match")
async def match(ctx: NodeContext, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Find each item in the catalogue by its number, or by the most similar description."""
    matches = []
    for done, item in enumerate(items, 1):
        await asyncio.sleep(LOOK_UP_SECONDS)
        matches.append({"line": item["line"], **_look_up(item["sku"], item["description"])})
        ctx.progress(100 * done / len(items), item["description"])
    return matches


@node("po.totals", instant=True)
def totals(order: dict[str, Any]) -> dict[str, Any]:
    """Add up quantities and amounts."""
    amounts = [Decimal(str(item["total"])) for item in order["items"]]
    return {
        "lines": len(amounts),
        "quantity": sum(item["quantity"] for item in order["items"]),
        "total": float(sum(amounts, Decimal(0))),
        "currency": order["currency"],
    }


@node("po.book")
async def book(
    ctx: NodeContext, po_number: str, totals: dict[str, Any], matches: list[dict[str, Any]]
) -> dict[str, Any]:
    """Book the order once, even if the attempt is repeated.

    A real accounting system would be sent ``ctx.idempotency_key``, and would answer a second
    attempt with the first one's booking.
    """
    await asyncio.sleep(LOOK_UP_SECONDS)
    return {
        "booking": ctx.idempotency_key,
        "po_number": po_number,
        "total": totals["total"],
        "currency": totals["currency"],
        "matched": sum(found["sku"] is not None for found in matches),
    }


def _look_up(sku: str, description: str) -> dict[str, Any]:
    if sku in CATALOGUE:
        return {"sku": sku, "similarity": 1.0}
    likeness = {
        known: difflib.SequenceMatcher(None, description.lower(), text.lower()).ratio()
        for known, text in CATALOGUE.items()
    }
    best = max(likeness, key=likeness.__getitem__)
    found = best if likeness[best] >= 0.6 else None
    return {"sku": found, "similarity": round(likeness[best], 3)}


def _order_json(order: Order) -> dict[str, Any]:
    return {
        "header": dict(order.header),
        "items": [_item_json(item) for item in order.items],
        "currency": order.currency,
        "total": float(order.total),
        "stated_total": None if order.stated_total is None else float(order.stated_total),
        "confidence": float(order.confidence),
    }


def _item_json(item: Item) -> dict[str, Any]:
    return {
        "line": item.line,
        "sku": item.sku,
        "description": item.description,
        "quantity": float(item.quantity),
        "unit_price": float(item.unit_price),
        "total": float(item.total),
        "confidence": float(item.confidence),
        "notes": list(item.notes),
    }
