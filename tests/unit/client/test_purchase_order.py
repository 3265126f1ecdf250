"""The example's parser reads purchase orders as they come."""

import importlib
from decimal import Decimal
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLES = Path(__file__).parents[3] / "examples"
SAMPLES = EXAMPLES / "purchase_order" / "samples"


@pytest.fixture
def order_csv(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The parser, imported as a worker would."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module("purchase_order.order_csv")


def test_a_german_export_is_read(order_csv: ModuleType) -> None:
    """Semicolons, decimal commas, quotes inside quotes, blank lines, a missing total, a sum."""
    order = order_csv.parse_order((SAMPLES / "office-furniture.csv").read_text())

    assert order.header["purchase order"] == "PO-2024-0117"
    assert [item.quantity for item in order.items] == [12, 24, 24, 18]
    assert order.items[0].description == 'Desk "Fjord", height-adjustable; 160x80 cm'
    assert order.items[2].total == Decimal("453.60")
    assert order.items[2].notes == ("the total is missing; it was computed",)
    assert [item.confidence for item in order.items] == [1, 1, Decimal("0.8"), 1]
    assert (order.currency, order.total, order.stated_total) == (
        "EUR",
        Decimal("12926.10"),
        Decimal("12926.10"),
    )


def test_an_american_export_is_read(order_csv: ModuleType) -> None:
    """Commas, dollar signs, grouped thousands, a line break inside a field."""
    order = order_csv.parse_order((SAMPLES / "workshop.csv").read_text())

    assert order.header["ship to"] == "12 Mill Lane\nUnit 4"
    assert order.items[3].total == Decimal("1134.00")
    assert (order.currency, order.total, order.confidence) == ("USD", Decimal("2025.00"), 1)


def test_what_disagrees_lowers_the_confidence(order_csv: ModuleType) -> None:
    """A total that is not quantity times price, and a sum that is not the lines'."""
    order = order_csv.parse_order("Item,Qty,Price,Total\nBolt,3,2.00,7.00\nTotal,,,99.00\n")

    assert order.items[0].confidence == Decimal("0.5")
    assert order.confidence == Decimal("0.25")


@pytest.mark.parametrize(
    ("text", "sign", "amount"),
    [
        ("1,234.50", ".", "1234.50"),
        ("1.234,50 €", ",", "1234.50"),
        ("CHF 1\u2019234.50", ".", "1234.50"),
        ("1 234,50", ",", "1234.50"),
        ("($12.00)", ".", "-12.00"),
        ("12.00-", ".", "-12.00"),
        ("n/a", ".", None),
        ("", ".", None),
    ],
)
def test_amounts_are_read_in_the_ways_people_write_them(
    order_csv: ModuleType, text: str, sign: str, amount: str | None
) -> None:
    """Currency signs, grouping and three ways to say minus."""
    expected = None if amount is None else Decimal(amount)

    assert order_csv.parse_amount(text, sign) == expected


@pytest.mark.parametrize("text", ["", "hello", "Item,Qty\nBolt,3\n", "Item,Qty,Price\n"])
def test_a_file_that_is_not_an_order_is_refused(order_csv: ModuleType, text: str) -> None:
    """A header, amounts and lines are required."""
    with pytest.raises(order_csv.OrderError):
        order_csv.parse_order(text)
