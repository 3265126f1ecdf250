"""Delete ended executions, and keep the start rows complete; one worker does so at a time."""

import asyncio
import random
from typing import Final, NoReturn

import msgspec
import structlog

from tailrace_shared.errors import JetStreamError, UnavailableError
from tailrace_shared.stores.retention import Retention
from tailrace_shared.stores.start_pruning import StartPruning
from tailrace_shared.stores.start_repair import StartRepair
from tailrace_worker.engine.recovery.interval_lease import IntervalLease

RETENTION_DUTY: Final = "retention"

_log = structlog.get_logger(__name__)


class RetentionSweeper:
    """Sweeps the executions whose retention is over, once an interval.

    Args:
        interval: the time between two sweeps of the fleet, in seconds.
    """

    def __init__(
        self,
        retention: Retention,
        pruning: StartPruning,
        repair: StartRepair,
        lease: IntervalLease,
        interval: float,
    ) -> None:
        self._retention = retention
        self._pruning = pruning
        self._repair = repair
        self._lease = lease
        self._interval = interval

    async def run(self) -> NoReturn:
        while True:
            # Workers that started together should not claim the lease together.
            await asyncio.sleep(self._interval * random.uniform(0.9, 1.1))  # noqa: S311
            try:
                if not await self._lease.claim():
                    continue
                swept = await self._retention.sweep()
                await self._pruning.sweep()
                added = await self._repair.sweep()
            except (UnavailableError, JetStreamError, msgspec.DecodeError) as error:
                _log.warning("retention: sweep failed", error=str(error))
                continue
            if added:
                _log.info("start index: added rows", count=added)
            if swept.deleted:
                _log.info(
                    "retention: deleted executions", count=swept.deleted, renewed=swept.renewed
                )
