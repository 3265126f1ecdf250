"""What wakes a drive that waits: something that happens, a time, or a long silence."""

import asyncio


class WakeUp:
    """Wakes one who waits. Everything happens on one event loop.

    Args:
        loop: that loop.
        patience: after how many seconds without a ring a silence is a long one.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, patience: float) -> None:
        self._loop = loop
        self._patience = patience
        self._rung = asyncio.Event()
        self._waits_since: float | None = None
        self._was_silent = False
        self._impatience: asyncio.TimerHandle | None = None

    @property
    def has_rung(self) -> bool:
        """Whether it has rung since it was reset."""
        return self._rung.is_set()

    def ring(self) -> None:
        """Wake who waits, or let the next wait be over at once."""
        self._rung.set()

    def reset(self) -> None:
        """Forget that it has rung."""
        self._rung.clear()

    def stop(self) -> None:
        """Watch for no silence any more."""
        if self._impatience is not None:
            self._impatience.cancel()
            self._impatience = None

    async def wait(self, delay: float | None, *, minds_silence: bool) -> bool:
        """Return once it has rung; tells whether that was because of a long silence.

        Args:
            delay: seconds after which it rings anyway.
            minds_silence: whether it rings after a long silence as well.
        """
        timer = None if delay is None else self._loop.call_later(delay, self.ring)
        self._waits_since = self._loop.time()
        if minds_silence and self._impatience is None:
            self._impatience = self._loop.call_later(self._patience, self._lose_patience)
        await self._rung.wait()
        self._waits_since = None
        if timer is not None:
            timer.cancel()
        was_silent, self._was_silent = self._was_silent, False
        return was_silent

    def _lose_patience(self) -> None:
        # One timer for many waits: a timer for each would cost as much as the wait itself.
        now = self._loop.time()
        until = self._patience + (now if self._waits_since is None else self._waits_since)
        if until > now:
            self._impatience = self._loop.call_at(until, self._lose_patience)
            return
        self._impatience, self._was_silent = None, True
        self.ring()
