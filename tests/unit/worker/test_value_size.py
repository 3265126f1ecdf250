"""Which outputs are worked on in the loop."""

import dataclasses

import pytest

from tailrace_worker.engine.run.value_size import is_small
from tailrace_worker.nodes.node import Wait


@dataclasses.dataclass
class Order:
    number: str


@pytest.mark.parametrize(
    "value",
    [None, True, 1, 1.5, "text", {}, {"a": [1, {"b": None}]}, ["x" * 30_000], Wait(seconds=1.0)],
)
def test_small_values(value):
    assert is_small(value)


@pytest.mark.parametrize(
    "value",
    [
        "x" * 40_000,
        ["x" * 20_000, "x" * 20_000],
        {"x" * 40_000: 1},
        list(range(501)),
        [[0] * 400] * 400,
        {str(number): number for number in range(501)},
        b"bytes",
        Order("1"),
        {"order": Order("1")},
        {1, 2},
    ],
)
def test_large_and_unknown_values(value):
    assert not is_small(value)


def test_a_value_that_contains_itself_ends():
    """The encoder refuses it later."""
    value: list[object] = []
    value.append(value)
    assert not is_small(value)
