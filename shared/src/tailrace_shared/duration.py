"""Parse and format durations such as ``250ms``, ``30s``, ``5m``, ``24h`` and ``7d``."""

import re
from typing import Final, Self

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
LONGEST: Final = 36_500 * 86400.0
"""A century. Later times overflow calendar dates."""

_TEXT = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")


class Duration(float):
    """A non-negative duration in seconds, with a readable text form."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a duration.

        Raises:
            ValueError: if ``text`` is not a number followed by one of ms, s, m, h, d, or is
                longer than a century.
        """
        match = _TEXT.fullmatch(text.strip())
        if match is None:
            raise ValueError(f"{text[:40]!r} is not a duration; use a form like 250ms, 30s or 7d")
        number, unit = match.groups()
        duration = cls(float(number) * _UNITS[unit])
        if duration > LONGEST:
            raise ValueError(f"{text[:40]!r} is longer than {cls(LONGEST)}")
        return duration

    def __str__(self) -> str:
        for unit, seconds in reversed(_UNITS.items()):
            if self >= seconds:
                return f"{self / seconds:.10g}{unit}"
        return "0s"
