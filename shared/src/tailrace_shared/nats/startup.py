"""Wait at startup for a NATS that is not there yet, or whose cluster is not ready yet.

Services and NATS may be started together. A new cluster has no leader for some seconds, and then
too few peers for a replicated stream. A service repeats what it needs until its time limit.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import structlog

from tailrace_shared.errors import JetStreamError, StartupError, UnavailableError

_FIRST_PAUSE_S: Final = 0.1
_MAX_PAUSE_S: Final = 1.0
# A start that takes no longer is not worth a line in the log.
_SILENT_S: Final = 2.0
_LOG_INTERVAL_S: Final = 10.0

_log = structlog.get_logger(__name__)

T = TypeVar("T")


class StartupLimit:
    """The time within which a service must have from NATS what it needs to start.

    Args:
        seconds: the limit, counted from now.
    """

    def __init__(self, seconds: float) -> None:
        now = asyncio.get_running_loop().time()
        self._deadline = now + seconds
        self._log_at = now + _SILENT_S

    @property
    def left(self) -> float:
        """Seconds until the limit; at least 0."""
        return max(self._deadline - asyncio.get_running_loop().time(), 0.0)

    def note(self, error: Exception) -> None:
        """Log now and then what the service is waiting for."""
        now = asyncio.get_running_loop().time()
        if now >= self._log_at:
            self._log_at = now + _LOG_INTERVAL_S
            _log.warning("waiting for NATS", error=str(error) or repr(error))

    async def retry(self, call: Callable[[], Awaitable[T]]) -> T:
        """Call, and call again while JetStream is not ready. ``call`` must be idempotent.

        Raises:
            StartupError: JetStream refused, or is not ready at the limit.
        """
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                return await call()
            except UnavailableError as error:
                if self.left <= pause_s:
                    raise StartupError(f"JetStream is not ready: {error}") from None
                self.note(error)
            except JetStreamError as error:
                raise StartupError(f"JetStream is not usable: {error}") from None
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _MAX_PAUSE_S)
