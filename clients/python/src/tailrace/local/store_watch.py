"""Restart the embedded NATS when it cannot store although its folder can be written again.

A stream that failed to write once, because the disk was full or the folder could not be written,
stays broken until NATS restarts. The API reports it at ``/readyz``.
"""

import asyncio
import contextlib
import http.client
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import msgspec

from tailrace.local.console import Console
from tailrace.local.ports import LOOPBACK

CANNOT_STORE: Final = "NATS cannot store"
"""The beginning of the reason that an API gives while NATS cannot store."""

_INTERVAL_S: Final = 2.0
_PROBE_TIMEOUT_S: Final = 5.0
_BETWEEN_RESTARTS_S: Final = 30.0
# Enough space for NATS to continue for a while.
_NEEDED_BYTES: Final = 1024 * 1024


class _Unready(msgspec.Struct):
    reasons: list[str] = []


class StoreWatch:
    """Watches the store of one embedded NATS.

    Args:
        address: the address of an API replica.
        folder: where NATS stores.
        restart: restarts NATS.
        console: where the operator is informed.
    """

    def __init__(
        self,
        address: tuple[str, int],
        folder: Path,
        restart: Callable[[], Awaitable[None]],
        console: Console,
    ) -> None:
        self._address = address
        self._folder = folder
        self._restart = restart
        self._console = console
        self._reported = ""

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            await asyncio.sleep(_INTERVAL_S)
            reason = await asyncio.to_thread(_reason_of, self._address)
            if not reason:
                self._reported = ""
                continue
            obstacle = await asyncio.to_thread(_obstacle, self._folder)
            if obstacle:
                self._report(f"{reason}; {self._folder} cannot be written: {obstacle}")
                continue
            self._console.say(f"{reason}; {self._folder} can be written: restarting NATS")
            await self._restart()
            # The API needs a moment to notice that NATS can store again.
            await asyncio.sleep(_BETWEEN_RESTARTS_S)

    def _report(self, line: str) -> None:
        if line != self._reported:
            self._reported = line
            self._console.say(line)


def probe_address(host: str, port: int) -> tuple[str, int]:
    """Return the address at which this machine reaches an API that listens on ``host``."""
    everywhere = {"0.0.0.0": LOOPBACK, "": LOOPBACK, "::": "::1"}  # noqa: S104 - binds nothing
    return everywhere.get(host, host), port


def _reason_of(address: tuple[str, int]) -> str:
    """Return why NATS cannot store; empty if it can, or if the API does not say."""
    connection = http.client.HTTPConnection(*address, timeout=_PROBE_TIMEOUT_S)
    try:
        connection.request("GET", "/readyz")
        unready = msgspec.json.decode(connection.getresponse().read(), type=_Unready)
    except (OSError, http.client.HTTPException, msgspec.MsgspecError):
        return ""
    finally:
        connection.close()
    return next((reason for reason in unready.reasons if reason.startswith(CANNOT_STORE)), "")


def _obstacle(folder: Path) -> str:
    """Return why a file cannot be written into a folder; empty if one can."""
    probe = folder / "write-probe"
    try:
        with probe.open("wb") as file:
            file.write(bytes(_NEEDED_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return os.strerror(error.errno or 0)
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()
    return ""
