"""Wake a drive that waits: by an event, at a time, or after a long silence."""

import asyncio


class WakeUp:
    """An event for one event loop, whose waits also end after a delay or after a long silence.

    Args:
        silence_s: seconds of a wait without :meth:`set` that count as a long silence.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, silence_s: float) -> None:
        self._loop = loop
        self._silence_s = silence_s
        self._event = asyncio.Event()
        self._waiting_since: float | None = None
        self._was_silent = False
        self._silence_timer: asyncio.TimerHandle | None = None

    @property
    def is_set(self) -> bool:
        return self._event.is_set()

    def set(self) -> None:
        """End the current wait, or the next one at once."""
        self._event.set()

    def clear(self) -> None:
        self._event.clear()

    def stop(self) -> None:
        """Cancel the timer that measures silence."""
        if self._silence_timer is not None:
            self._silence_timer.cancel()
            self._silence_timer = None

    async def wait(self, delay: float | None, *, notice_silence: bool) -> bool:
        """Wait until it is set; return whether a long silence has set it.

        Args:
            delay: seconds after which it is set anyway; None for no limit.
            notice_silence: whether a long silence sets it.
        """
        timer = None if delay is None else self._loop.call_later(delay, self.set)
        self._waiting_since = self._loop.time()
        if notice_silence and self._silence_timer is None:
            self._silence_timer = self._loop.call_later(self._silence_s, self._on_silence)
        await self._event.wait()
        self._waiting_since = None
        if timer is not None:
            timer.cancel()
        was_silent, self._was_silent = self._was_silent, False
        return was_silent

    def _on_silence(self) -> None:
        # One timer for many waits: a timer for each would cost as much as the wait itself.
        now = self._loop.time()
        until = self._silence_s + (now if self._waiting_since is None else self._waiting_since)
        if until > now:
            self._silence_timer = self._loop.call_at(until, self._on_silence)
            return
        self._silence_timer, self._was_silent = None, True
        self.set()
