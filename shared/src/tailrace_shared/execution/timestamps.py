"""Timestamps of events: RFC 3339 in UTC with milliseconds."""

import functools
from datetime import UTC, datetime


def format_timestamp(seconds: float) -> str:
    """Format seconds since the epoch, for example ``2024-01-15T10:30:00.000Z``."""
    second, microsecond = divmod(round(seconds * 1_000_000), 1_000_000)
    return f"{_format_second(second)}.{microsecond // 1000:03d}Z"


@functools.lru_cache(maxsize=16)  # workers write thousands of events per second
def _format_second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).isoformat(timespec="seconds")[:-6]


def parse_timestamp(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
