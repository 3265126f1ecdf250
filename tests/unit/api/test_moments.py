"""Answers that are good for a moment."""

import asyncio

import pytest

from tailrace_api.documents.single_flight_cache import SingleFlightCache


class Maker:
    """Makes answers that count how often one was made."""

    def __init__(self) -> None:
        self.made = 0
        self.fails = False

    async def make(self) -> int:
        """Make one."""
        self.made += 1
        await asyncio.sleep(0)
        if self.fails:
            raise ValueError
        return self.made


async def test_all_who_ask_meanwhile_get_the_same() -> None:
    """Those who come while it is being made, and those who come a little later."""
    maker, moments = Maker(), SingleFlightCache[str, int](60.0)
    assert await asyncio.gather(*(moments.get("a", maker.make) for _ in range(5))) == [1] * 5
    assert await moments.get("a", maker.make) == 1
    assert await moments.get("b", maker.make) == 2


async def test_an_old_answer_is_made_again() -> None:
    """However often it was asked for."""
    maker, moments = Maker(), SingleFlightCache[str, int](-1.0)
    assert [await moments.get("a", maker.make) for _ in range(3)] == [1, 2, 3]


async def test_a_failure_is_nobody_elses() -> None:
    """Who asks afterwards has it tried again."""
    maker, moments = Maker(), SingleFlightCache[str, int](60.0)
    maker.fails = True
    with pytest.raises(ValueError, match=r"^$"):
        await moments.get("a", maker.make)
    maker.fails = False
    assert await moments.get("a", maker.make) == 2


async def test_who_gives_up_does_not_take_the_answer_from_others() -> None:
    """It is made for all of them."""
    maker, moments = Maker(), SingleFlightCache[str, int](60.0)
    first = asyncio.create_task(moments.get("a", maker.make))
    second = asyncio.create_task(moments.get("a", maker.make))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == 1


async def test_only_so_many_are_kept() -> None:
    """The one that was made longest ago goes."""
    maker, moments = Maker(), SingleFlightCache[str, int](60.0, most=2)
    for key in "abc":
        await moments.get(key, maker.make)
    assert await moments.get("c", maker.make) == 3
    assert await moments.get("a", maker.make) == 4
