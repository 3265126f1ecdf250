"""Streams of a stopping process end at a limited rate, within the drain time."""

import asyncio
from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from harness.fakes.virtual_time import run_in_virtual_time
from tailrace_api.fanout.clients.connection import ClientConnection
from tailrace_api.fanout.clients.drain import drain, streams_per_step


class _Stream:
    def __init__(self) -> None:
        self.ended_at = -1.0

    def end(self, reason: str) -> None:
        assert reason == "drained"
        assert self.ended_at < 0
        self.ended_at = asyncio.get_running_loop().time()


def _ends(streams: int, seconds: float) -> list[float]:
    async def scenario() -> list[float]:
        them = [_Stream() for _ in range(streams)]
        await drain(cast("list[ClientConnection]", them), seconds)
        return [stream.ended_at for stream in them]

    return run_in_virtual_time(scenario())


@given(st.integers(0, 3000), st.floats(0, 10))
def test_all_streams_end_in_time(streams: int, seconds: float) -> None:
    """For any number of streams and any drain time."""
    ends = _ends(streams, seconds)
    assert all(0 <= end <= seconds + 0.001 for end in ends)


def test_many_streams_are_spread_over_the_time_in_random_order() -> None:
    """Ten thousand in three seconds: about equally many in each tenth of a second."""
    ends = _ends(10_000, 3.0)
    for start in range(20):
        assert len([end for end in ends if start / 10 <= end < start / 10 + 0.1]) < 1000
    assert max(ends) > 1.5
    assert ends != sorted(ends)


def test_few_streams_do_not_wait() -> None:
    """Their reconnects overload no replica."""
    assert max(_ends(10, 60.0)) < 0.2
    assert streams_per_step(1, 60.0) == 1
