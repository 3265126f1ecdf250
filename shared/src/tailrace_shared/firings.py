"""The times at which a schedule fires. Pure."""

import zoneinfo
from collections.abc import Iterator
from datetime import UTC, datetime, tzinfo
from typing import Final

from tailrace_shared.recurrence import Every, parse_recurrence

_UTC: Final = "+00:00"


def zone_of(name: str | None) -> tzinfo | None:
    """Return a time zone, UTC by default; None if this machine does not know it."""
    if name is None:
        return UTC
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, OSError, ValueError):
        return None


def firings_after(
    cron: str, time_zone: str | None, after: float, phase: float | None = None
) -> Iterator[float]:
    """Yield the times at which a pattern fires after a moment, in seconds since the epoch.

    Args:
        cron: the pattern.
        time_zone: the IANA time zone of a cron expression.
        after: the moment.
        phase: a time at which an interval fires; an interval without one fires never.
    """
    recurrence, zone = parse_recurrence(cron), zone_of(time_zone)
    if isinstance(recurrence, Every):
        if phase is None:
            return
        count = (after - phase) // recurrence.seconds + 1
        while True:
            yield phase + count * recurrence.seconds
            count += 1
    if zone is None:
        return  # NATS's machine knows this time zone, this one does not
    moment: float | None = after
    while moment is not None and (moment := recurrence.next(moment, zone)) is not None:
        yield moment


def header_of(moment: float, time_zone: str | None) -> str | None:
    """Return a time as NATS writes it into the headers of a firing; None in an unknown zone."""
    zone = zone_of(time_zone)
    if zone is None:
        return None
    text = datetime.fromtimestamp(moment, zone).isoformat(timespec="seconds")
    return text.removesuffix(_UTC) + "Z" if text.endswith(_UTC) else text
