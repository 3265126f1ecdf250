"""Notices when the retry or successor of a message could not be enqueued.

Middleware enqueues retries and successors after a message was processed. Dramatiq logs an exception
there and acknowledges the message all the same, so the retry would be lost. ``FollowUps`` remembers
the failure, and the consumer then releases the message instead of acknowledging it.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class FollowUps(threading.local):
    """Tracks, for each worker thread, the follow-ups of the message that it has processed."""

    _is_sending = False
    _is_unsent = False

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Count what is enqueued in this block as follow-ups of the current message."""
        self._is_sending, self._is_unsent = True, False
        try:
            yield
        finally:
            self._is_sending = False

    def note_failed_enqueue(self) -> None:
        """Record that an enqueue failed; it matters only within ``sending``."""
        self._is_unsent |= self._is_sending

    def take_unsent(self) -> bool:
        """Return whether a follow-up of the current message was not sent, and forget it."""
        is_unsent, self._is_unsent = self._is_unsent, False
        return is_unsent
