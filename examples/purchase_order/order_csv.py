"""Purchase orders as CSV, read the way people read them.

Exports differ in everything: the separator, the decimal sign, the words in the header, lines
above it and sums below it. What can be read with certainty has confidence 1; what had to be
worked out, or contradicts itself, has less. Amounts are decimals throughout; binary floating
point would make cents up.
"""

import csv
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Final

CENT: Final = Decimal("0.01")

SEPARATORS: Final = (",", ";", "\t", "|")
COLUMNS: Final[Mapping[str, frozenset[str]]] = {
    "line": frozenset({"line", "pos", "no", "#"}),
    "sku": frozenset({"sku", "item no", "article no", "artikel-nr", "part number", "code"}),
    "description": frozenset({"description", "item", "product", "article", "bezeichnung"}),
    "quantity": frozenset({"qty", "quantity", "menge", "units", "ordered"}),
    "unit_price": frozenset({"unit price", "price", "einzelpreis", "price each", "rate"}),
    "total": frozenset({"total", "amount", "line total", "gesamt", "gesamtpreis", "ext price"}),
}
CURRENCIES: Final[Mapping[str, str]] = {"€": "EUR", "$": "USD", "£": "GBP", "¥": "JPY"}

_CODE: Final = re.compile(r"\b(EUR|USD|GBP|CHF|JPY|SEK|NOK|DKK|PLN)\b")
_SUM: Final = re.compile(r"(?i)^(grand |sub)?total|^sum|^summe|^gesamt|^net\b")
_NOT_AN_ITEM: Final = re.compile(r"(?i)^(vat|tax|mwst|ust|shipping|freight|discount|versand)")
_GROUPING: Final = "'\u2019 \u00a0\u202f"

# Deductions from the confidence of a line, by cause.
COMPUTED_TOTAL: Final = (Decimal("0.8"), "the total is missing; it was computed")
COMPUTED_PRICE: Final = (Decimal("0.7"), "the unit price is missing; it was computed")
DISAGREES: Final = (Decimal("0.5"), "quantity times unit price is not the total")
ASSUMED_ONE: Final = (Decimal("0.6"), "the quantity is missing; one was assumed")
UNREADABLE: Final = (Decimal("0.2"), "neither price nor total can be read")


class OrderError(Exception):
    """The text is not a purchase order."""


@dataclass(frozen=True)
class Item:
    """One line of an order."""

    line: int
    sku: str
    description: str
    quantity: Decimal
    unit_price: Decimal
    total: Decimal
    confidence: Decimal
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Order:
    """An order.

    Attributes:
        header: what stands above the lines: number, supplier, date and the like.
        stated_total: the sum that the document itself gives, if it does.
    """

    header: Mapping[str, str]
    items: Sequence[Item]
    currency: str
    stated_total: Decimal | None

    @property
    def total(self) -> Decimal:
        """The sum of the lines."""
        return sum((item.total for item in self.items), Decimal(0))

    @property
    def confidence(self) -> Decimal:
        """The mean of the lines' confidence, halved if their sum is not the stated one."""
        mean = sum((item.confidence for item in self.items), Decimal(0)) / len(self.items)
        agrees = self.stated_total is None or abs(self.stated_total - self.total) <= CENT
        return (mean if agrees else mean / 2).quantize(Decimal("0.001"))


@dataclass
class _Table:
    """A CSV text with its header row found."""

    separator: str
    rows: list[list[str]]
    header_row: int = -1
    columns: dict[str, int] = field(default_factory=dict)

    def cell(self, row: Sequence[str], column: str) -> str:
        index = self.columns.get(column, len(row))
        return row[index].strip() if index < len(row) else ""


def parse_order(text: str, on_line: Callable[[int, int], None] = lambda _done, _of: None) -> Order:
    """Read an order.

    Args:
        text: the CSV.
        on_line: called after each line with how many are done, and of how many.

    Raises:
        OrderError: there is no header with a description and an amount, or no line below it.
    """
    table = _find_table(text)
    body = [row for row in table.rows[table.header_row + 1 :] if any(map(str.strip, row))]
    decimal_sign = _decimal_sign(table, body)
    items: list[Item] = []
    stated: Decimal | None = None
    for done, row in enumerate(body, 1):
        label = next(cell.strip() for cell in row if cell.strip())
        if _SUM.match(label):
            stated = _last_amount(row, decimal_sign) or stated
        elif not _NOT_AN_ITEM.match(label):
            items.append(_item(table, row, len(items) + 1, decimal_sign))
        on_line(done, len(body))
    if not items:
        raise OrderError("the order has a header but no lines")
    return Order(dict(_header(table)), items, _currency(text), stated)


def parse_amount(text: str, decimal_sign: str = ".") -> Decimal | None:
    """Read an amount with currency signs, grouping and either minus, or return None."""
    digits = re.sub(rf"[^0-9.,()\-{_GROUPING}]", "", text).strip(_GROUPING)
    negative = digits.startswith(("(", "-")) or digits.endswith("-")
    grouping = "," if decimal_sign == "." else "."
    for char in f"{_GROUPING}{grouping}()-":
        digits = digits.replace(char, "")
    try:
        amount = Decimal(digits.replace(decimal_sign, "."))
    except InvalidOperation:
        return None
    return -amount if negative else amount


def _find_table(text: str) -> _Table:
    """Return the separator that yields the most known columns in the header."""
    tables = [_read(text, separator) for separator in SEPARATORS]
    best = max(tables, key=lambda table: len(table.columns))
    if "description" not in best.columns or not {"unit_price", "total"} & best.columns.keys():
        raise OrderError(
            "no header row: it needs a description, and a unit price or a total for each line"
        )
    return best


def _read(text: str, separator: str) -> _Table:
    lines = text.removeprefix("\ufeff").splitlines(keepends=True)
    table = _Table(separator, list(csv.reader(lines, delimiter=separator)))
    for number, row in enumerate(table.rows):
        columns = _columns(row)
        if len(columns) > len(table.columns):
            table.header_row, table.columns = number, columns
    return table


def _columns(row: Sequence[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for index, cell in enumerate(row):
        word = cell.strip().rstrip(".:").lower()
        for column, words in COLUMNS.items():
            if word in words:
                found.setdefault(column, index)
    return found


def _header(table: _Table) -> Iterator[tuple[str, str]]:
    for row in table.rows[: table.header_row]:
        cells = [cell.strip() for cell in row if cell.strip()]
        if len(cells) >= 2:
            yield cells[0].rstrip(":").lower(), cells[1]


def _decimal_sign(table: _Table, body: Sequence[Sequence[str]]) -> str:
    """Return the decimal sign that at least one amount uses unambiguously.

    A sign with one, two or more than three digits after it, or the last of two different signs,
    is no grouping. Without such an amount the separator tells: commas separate fields only where
    they are not needed in numbers.
    """
    for row in body:
        for column in ("unit_price", "total"):
            cell = re.sub(r"[^0-9.,]", "", table.cell(row, column))
            if re.search(r"\..*,\d+$", cell) or re.fullmatch(r"\d+,(\d{1,2}|\d{4,})", cell):
                return ","
            if re.search(r",.*\.\d+$", cell) or re.fullmatch(r"\d+\.(\d{1,2}|\d{4,})", cell):
                return "."
    return "," if table.separator == ";" else "."


def _item(table: _Table, row: Sequence[str], line: int, decimal_sign: str) -> Item:
    quantity = parse_amount(table.cell(row, "quantity"), decimal_sign)
    price = parse_amount(table.cell(row, "unit_price"), decimal_sign)
    total = parse_amount(table.cell(row, "total"), decimal_sign)
    doubts = []
    if quantity is None:
        quantity = Decimal(1)
        doubts.append(ASSUMED_ONE)
    if price is None and total is None:
        price = total = Decimal(0)
        doubts.append(UNREADABLE)
    elif total is None and price is not None:
        total = _cents(quantity * price)
        doubts.append(COMPUTED_TOTAL)
    elif price is None and total is not None:
        price = _cents(total / quantity) if quantity else Decimal(0)
        doubts.append(COMPUTED_PRICE)
    elif price is not None and total is not None and abs(_cents(quantity * price) - total) > CENT:
        doubts.append(DISAGREES)
    return Item(
        line=line,
        sku=table.cell(row, "sku"),
        description=" ".join(table.cell(row, "description").split()),
        quantity=quantity,
        unit_price=price or Decimal(0),
        total=total or Decimal(0),
        confidence=min((confidence for confidence, _ in doubts), default=Decimal(1)),
        notes=tuple(note for _, note in doubts),
    )


def _last_amount(row: Sequence[str], decimal_sign: str) -> Decimal | None:
    amounts = [
        amount for cell in row[1:] if (amount := parse_amount(cell, decimal_sign)) is not None
    ]
    return amounts[-1] if amounts else None


def _currency(text: str) -> str:
    if code := _CODE.search(text):
        return code.group()
    return next((code for sign, code in CURRENCIES.items() if sign in text), "EUR")


def _cents(amount: Decimal) -> Decimal:
    return amount.quantize(CENT, ROUND_HALF_UP)
